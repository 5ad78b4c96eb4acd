"""Trained heads: what is written is read back, for the model that it belongs to and for no other."""
import pytest
import torch
from core_helpers import assert_clear_error, one_thread, tiny_model  # noqa: F401
from mutants import early_exit as wrong
from safetensors.torch import save_file

from minilm import heads
from minilm.decoding import ExitHead
from minilm.decoding.proposers import AheadHeads

TENSORS = {"weight": torch.arange(24.0) / 7, "bias": torch.tensor(-0.25)}


def check_fingerprint(path):
    """The same for one model in every precision; another for other weights or another shape."""
    model = tiny_model()
    own = heads.fingerprint(model)
    assert len(own) == 16 and int(own, 16) >= 0
    for dtype in (torch.float64, torch.bfloat16):
        assert heads.fingerprint(tiny_model(dtype=dtype)) == own
    stored = tiny_model(dtype=torch.bfloat16)                   # as on disk; whatever it is opened in, it is the same
    assert {heads.fingerprint(stored.to(dtype)) for dtype in (torch.float16, torch.float32, torch.bfloat16)} == {own}
    others = [tiny_model(seed=1), tiny_model(num_layers=3), tiny_model(vocab_size=96)]
    changed = tiny_model()
    changed.layers[1].mlp_norm.weight[3] += 0.1
    assert len({own, *map(heads.fingerprint, [*others, changed])}) == 5


def check_round_trip(path):
    model = tiny_model()
    heads.write(path, TENSORS, model)
    for dtype in (torch.float32, torch.float64):
        read = heads.read(path, tiny_model(dtype=dtype))
        assert read.keys() == TENSORS.keys()
        assert all(read[name].dtype == dtype and torch.equal(read[name].float(), TENSORS[name]) for name in TENSORS)
    ExitHead(**TENSORS).save(path, model)
    x = torch.randn(5, 24)
    assert torch.allclose(ExitHead.load(model, path)(x), ExitHead(**TENSORS)(x), rtol=0, atol=1e-6)


def check_another_model(path):
    """A head of another model, or of none that says so, is refused."""
    heads.write(path, TENSORS, tiny_model(seed=1))
    for call in (lambda: heads.read(path, tiny_model()), lambda: ExitHead.load(tiny_model(), path)):
        assert_clear_error(call, ValueError, "trained on another model", heads.fingerprint(tiny_model(seed=1)))
    save_file(TENSORS, path)
    assert_clear_error(lambda: heads.read(path, tiny_model()), ValueError, "trained on another model (None")


def check_eight_bits(path):
    """A matrix in 8 bits: a byte a number and a little; each number within half a step of its own 64, whatever
    the size of the others; a row of zeros stays one. The rest of the file is as it was."""
    model = tiny_model()
    x = torch.randn(6, 128, generator=torch.Generator().manual_seed(0)) * torch.tensor([1e-3, 1, 30, 1, 1, 0])[:, None]
    x[1, :64] *= 1e-2
    heads.write(path, TENSORS | {"matrix": x}, model, eight_bits=["matrix"])
    read = heads.read(path, tiny_model(dtype=torch.float64))
    assert read.keys() == {*TENSORS, "matrix"} and read["matrix"].dtype == torch.float64
    assert all(torch.equal(read[name].float(), TENSORS[name]) for name in TENSORS)
    step = x.view(-1, 64).abs().amax(1, keepdim=True) / 127
    assert ((read["matrix"].float() - x).view(-1, 64).abs() <= step * 0.51 + 1e-9).all()
    whole, scales = heads.to_eight_bits(x)
    assert whole.dtype == torch.int8 and scales.dtype == torch.float32 and len(scales) == 12
    assert int(whole.abs().max()) == 127 and not read["matrix"][5].any()


CHECKS = {check.__name__: check for check in (check_fingerprint, check_round_trip, check_another_model,
                                              check_eight_bits)}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_check_holds(check, tmp_path):
    """Guards heads that answer nonsense; see each check."""
    check(tmp_path / "head.safetensors")


@pytest.mark.parametrize("mutant", wrong.HEADS, ids=str)
def test_mutant_is_rejected(mutant, monkeypatch, tmp_path):
    """Guards checks that let a wrong version pass."""
    mutant.apply(monkeypatch)
    with pytest.raises(AssertionError):
        CHECKS[mutant.check](tmp_path / "head.safetensors")


def test_damaged(tmp_path):
    """Guards a file that is cut short, empty, or no safetensors file at all."""
    path, model = tmp_path / "head.safetensors", tiny_model()
    heads.write(path, TENSORS, model)
    whole = path.read_bytes()
    for bytes_left in (b"", whole[:4], whole[:40], whole[:-1], whole + b"x", b"\xff" * 100, b"weights, honestly"):
        path.write_bytes(bytes_left)
        assert_clear_error(lambda: heads.read(path, model), ValueError, "head.safetensors", "no whole safetensors file")


def test_missing(tmp_path):
    """Guards a name that no file has: the bundled ones are listed. A folder is no file."""
    for name in ("no-such-head", tmp_path / "gone.safetensors", tmp_path):
        assert_clear_error(lambda name=name: heads.read(name, tiny_model()), FileNotFoundError, repr(str(name)),
                           "bundled")


def test_bundled_by_name(tmp_path, monkeypatch):
    """Guards names without a folder or an ending, as the lessons write them."""
    monkeypatch.setattr(heads, "FOLDER", tmp_path)
    heads.write(tmp_path / "minilm-14m-exit-classifier.safetensors", TENSORS, tiny_model())
    assert torch.equal(ExitHead.load(tiny_model()).weight, TENSORS["weight"])
    with pytest.raises(FileNotFoundError, match="bundled ones are minilm-14m-exit-classifier$"):
        heads.read("lens", tiny_model())


def test_another_kind_of_head(tmp_path):
    """Guards Python's own "unexpected keyword argument" for a file that holds something else of the same model."""
    path, model = tmp_path / "lens.safetensors", tiny_model()
    for tensors, shown in (({"lens": torch.ones(3)}, "lens[3]"), ({"weight": torch.ones(24)}, "weight[24]"),
                           ({**TENSORS, "more": torch.ones(1)}, "bias[], more[1], weight[24]"),
                           ({**TENSORS, "weight": torch.ones(2, 24)}, "bias[], weight[2, 24]")):
        heads.write(path, tensors, model)
        assert_clear_error(lambda: ExitHead.load(model, path), ValueError, "is no exit classifier", f"holds {shown}")


def test_look_ahead_heads(tmp_path):
    """Guards heads that load and then fail, or answer nonsense: wrong names, sizes that don't fit together or the
    model, heads of another model. What fits comes back in the model's precision, rounded to float16."""
    path, model = tmp_path / "ahead.safetensors", tiny_model(dtype=torch.float64)
    good = {"up": torch.randn(3, 8, 48), "bias": torch.randn(3, 8), "down": torch.randn(3, 24, 8)}
    AheadHeads(**good).save(path, model)
    loaded = AheadHeads.load(model, path)
    assert len(loaded) == 3
    for name, tensor in good.items():
        assert getattr(loaded, name).dtype == torch.float64
        assert torch.equal(getattr(loaded, name), tensor.half().double())
    assert_clear_error(lambda: AheadHeads.load(tiny_model(seed=1), path), ValueError, "trained on another model")
    for wrong_ones, shown in (
            ({"weight": torch.ones(3, 24, 24), "bias": good["bias"]}, "bias[3, 8], weight[3, 24, 24]"),
            ({**good, "more": torch.ones(1)}, "more[1]"), ({**good, "up": torch.ones(3, 8)}, "up[3, 8]"),
            ({**good, "up": torch.ones(3, 8, 24)}, "up[3, 8, 24]"), ({**good, "bias": torch.ones(3, 1)}, "bias[3, 1]"),
            ({**good, "down": torch.ones(3, 8, 24)}, "down[3, 8, 24]"),
            ({**good, "down": torch.ones(2, 24, 8)}, "down[2, 24, 8]")):
        heads.write(path, wrong_ones, model)
        assert_clear_error(lambda: AheadHeads.load(model, path), ValueError, "no look-ahead heads", f"{shown}")
