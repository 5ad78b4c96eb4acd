"""GGUF files written by the `gguf` package's own writer: the logits of the dequantised weights; damage is one error."""
import functools

import gguf
import numpy as np
import pytest
import torch
from core_helpers import TEXTS, assert_clear_error, error_of, one_thread, random_ids, tiny_model  # noqa: F401
from gguf import GGMLQuantizationType as Kind
from gguf import quants
from mutants import core
from tokenizers.pre_tokenizers import ByteLevel

import minilm
from minilm import checkpoint, gguf_file
from minilm.model import GPT

SHAPE = {"vocab_size": 300, "width": 256, "num_heads": 4, "num_kv_heads": 2, "head_size": 64, "mlp_width": 256}
FAMILIES = {"llama": {}, "qwen2": {"qkv_bias": True}, "qwen3": {"qk_norm": True, "tie_embeddings": False}}
KINDS = [Kind.F32, Kind.F16, Kind.Q8_0, Kind.Q4_0, Kind.Q4_1, Kind.Q6_K]
NAMES = {ours: theirs for theirs, ours in {**gguf_file._LAYER_NAMES, **gguf_file._TOP_NAMES}.items()}


def six_bits(weight: np.ndarray) -> np.ndarray:
    """Q6_K by the format's definition, as the package can only read it: a superblock is 256 six-bit numbers q with 16
    one-byte scales s and one half d; a weight is d · s · (q - 32). Bytes: 128 low nibbles, 64 high bits, 16 s, d."""
    blocks = weight.reshape(-1, 16, 16)
    d = np.abs(blocks).max(axis=(1, 2)).astype(np.float16).astype(np.float32) / np.float32(31 * 127) + 1e-8
    d = d.astype(np.float16)
    step = d.astype(np.float32)[:, None]
    scales = np.clip(np.round(np.abs(blocks).max(-1) / 31 / step), 1, 127).astype(np.int8)
    q = np.clip(np.round(blocks / (step * scales)[..., None]) + 32, 0, 63).astype(np.uint8).reshape(-1, 2, 4, 32)
    low = np.concatenate([q[:, :, 0] & 15 | (q[:, :, 2] & 15) << 4, q[:, :, 1] & 15 | (q[:, :, 3] & 15) << 4], -1)
    high = sum((q[:, :, i] >> 4) << (2 * i) for i in range(4))
    parts = [low.reshape(len(q), 128), high.reshape(len(q), 64), scales.view(np.uint8), d[:, None].view(np.uint8)]
    return np.concatenate(parts, -1).reshape(weight.shape[0], -1)


def quantised(weight: np.ndarray, kind: Kind) -> np.ndarray:
    return six_bits(weight) if kind == Kind.Q6_K else quants.quantize(weight, kind)


def pairs_together(weight: torch.Tensor, head_size: int) -> torch.Tensor:
    """llama.cpp's row order: rows i and i + D/2 of a head become neighbours. One row at a time."""
    half, order = head_size // 2, []
    for first in range(0, len(weight), head_size):
        for i in range(half):
            order += [first + i, first + half + i]
    return weight[order]


def write(path, model: GPT, family: str, kind: Kind, **fields) -> GPT:
    """Writes `model` as llama.cpp would; returns the model that a right reader gets: with the dequantised weights."""
    c = model.config
    writer = gguf.GGUFWriter(path, family)
    writer.add_block_count(c.num_layers)
    writer.add_embedding_length(c.width)
    writer.add_head_count(c.num_heads)
    writer.add_head_count_kv(c.num_kv_heads)
    writer.add_key_length(c.head_size)
    writer.add_feed_forward_length(c.mlp_width)
    writer.add_context_length(c.max_positions)
    writer.add_rope_freq_base(c.rope_theta)
    writer.add_layer_norm_rms_eps(c.norm_eps)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(f"<{i}>" for i in range(c.vocab_size - 257)), "ab"]
    writer.add_token_list(tokens)
    writer.add_token_types([1] * 256 + [3] * (c.vocab_size - 257) + [1])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(256)
    for key, value in fields.items():
        writer.add_string(key.replace("__", "."), value)
    right = {}
    for name, tensor in model.state_dict().items():
        if name == "vocabulary.weight" and c.tie_embeddings:
            continue
        pieces = []
        for part, piece in zip(checkpoint._parts(name), tensor.split(checkpoint._part_rows(name, c) or len(tensor)),
                               strict=True):
            stem, _, end = part.rpartition(".")
            layer = f"blk.{stem.split('.')[2]}." if "layers" in stem else ""
            theirs = f"{layer}{NAMES[stem.split('.', 3)[3] if layer else stem]}.{end}"
            permute = family == "llama" and ("attn_q." in theirs or "attn_k." in theirs)
            stored = (pairs_together(piece, c.head_size) if permute else piece).contiguous().numpy()
            if piece.dim() == 1 or kind == Kind.F32:
                writer.add_tensor(theirs, stored)
                pieces.append(piece)
                continue
            writer.add_tensor(theirs, quantised(stored, kind), raw_dtype=kind)
            read = quants.dequantize(quantised(piece.contiguous().numpy(), kind), kind)     # rows are quantised alone
            pieces.append(torch.from_numpy(np.array(read)))
        right[name] = torch.cat(pieces)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return _with(model, right)


def _with(model: GPT, weights: dict) -> GPT:
    twin = GPT(model.config).eval().requires_grad_(False)
    twin.load_state_dict(weights, strict=False)
    return twin


@functools.cache
def model_of(family: str) -> GPT:
    return tiny_model(**SHAPE, **FAMILIES[family])


def check_reads(folder, kinds=(Kind.F32,), families=("llama",)):
    """Logits of the file equal those of the model with the dequantised weights."""
    for family in families:
        for kind in kinds:
            path = folder / f"{family}-{kind.name}.gguf"
            right = write(path, model_of(family), family, kind)
            ids = random_ids(300, 2, 20)
            got, want = checkpoint.load_model(path), right(ids)
            assert got.config == right.config, (family, kind)
            assert (got(ids) - want).abs().max() < 1e-4, (family, kind)
            moved = (want - model_of(family)(ids)).abs().mean() / want.std()
            assert moved < 0.5 and (moved > 1e-4) == (kind != Kind.F32), "the file holds other weights than it should"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("family", FAMILIES)
def test_reads(family, kind, tmp_path):
    """Guards every storage type in every family, biases, norms of queries and keys, tied and untied."""
    check_reads(tmp_path, [kind], [family])


@pytest.mark.parametrize("mutant", core.GGUF, ids=str)
def test_mutant_is_rejected(mutant, tmp_path, monkeypatch):
    """Guards a comparison that a wrong row order passes."""
    mutant.apply(monkeypatch)
    with pytest.raises(AssertionError):
        check_reads(tmp_path, families=FAMILIES)


def test_weights_are_our_own(tmp_path):
    """Guards tensors that still lie in the file: writing to one would fail, or change it."""
    write(tmp_path / "m.gguf", model_of("llama"), "llama", Kind.F32)
    before = (tmp_path / "m.gguf").read_bytes()
    model = checkpoint.load_model(tmp_path / "m.gguf")
    for weight in model.parameters():
        weight.zero_()
    assert (tmp_path / "m.gguf").read_bytes() == before
    again = checkpoint.load_model(tmp_path / "m.gguf")
    assert all(weight.abs().sum() > 0 for weight in again.parameters())


def test_six_bits_is_close():
    """Guards this file's own Q6_K writer: the package's reader must find the weights again to 1 part in 32."""
    weight = np.random.default_rng(0).normal(size=(4, 512)).astype(np.float32)
    back = quants.dequantize(six_bits(weight), Kind.Q6_K)
    assert np.abs(back - weight).max() < np.abs(weight).max() / 32


def test_tokenizer_of_a_file(tmp_path):
    """Guards the byte alphabet and the end token of a tokenizer read from GGUF; a tokenizer.json beside goes first."""
    write(tmp_path / "m.gguf", model_of("llama"), "llama", Kind.F16)
    model, tokenizer = minilm.load(tmp_path / "m.gguf")
    assert tokenizer.vocab_size == model.config.vocab_size == 300 and tokenizer.eos_id == 256
    for text in TEXTS:
        assert tokenizer.decode(tokenizer.encode(text)) == text
    _, other = minilm.load("minilm-1m")
    other.save(tmp_path)
    assert gguf_file.read_tokenizer(tmp_path / "m.gguf").fingerprint == other.fingerprint


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A file of a few kilobytes, to be damaged; (its bytes, where the tensors' data begins)."""
    path = tmp_path_factory.mktemp("gguf") / "m.gguf"
    write(path, tiny_model(vocab_size=300), "llama", Kind.F16)
    return path.read_bytes(), gguf.GGUFReader(path).data_offset


def test_cut_anywhere(small, tmp_path):
    """Guards a download cut in the header, between tensors or inside the last one, down to its last byte."""
    whole, start = small
    lengths = [0, 1, 3, 4, 7, 8, 20, 24, 40, start // 2, start - 1, start, start + 1, (start + len(whole)) // 2]
    last = len(whole) - 48                                      # the end may be padding to 32 bytes
    for length in [*lengths, *range(30, start, 499), *range(start, last, 9973), last]:
        path = tmp_path / f"{length}.gguf"
        path.write_bytes(whole[:length])
        assert_clear_error(lambda path=path: minilm.load(path), ValueError, path.name, "fetch it again")


@pytest.mark.parametrize("damage", [lambda b: b"GGUX" + b[4:], lambda b: b"\x80\x04pickle" * 500,
                                    lambda b: b"\0" * 9999, lambda b: b[:4] + b"\x09" + b[5:], lambda b: b"{}"])
def test_no_gguf_at_all(small, tmp_path, damage):
    """Guards a wrong magic, another version, and files of something else under the name."""
    (tmp_path / "m.gguf").write_bytes(damage(small[0]))
    assert_clear_error(lambda: minilm.load(tmp_path / "m.gguf"), ValueError, "m.gguf", "fetch it again")


def test_flipped_bytes_never_surprise(small, tmp_path):
    """Guards any other exception than ValueError when single bytes of the header are wrong."""
    whole, start = small
    generator = np.random.default_rng(0)
    positions = [*range(0, 400, 5), *generator.integers(0, start, 60).tolist()]
    for i, position in enumerate(positions):
        damaged = bytearray(whole)
        damaged[position] ^= int(generator.integers(1, 256))
        path = tmp_path / f"{i}.gguf"
        path.write_bytes(damaged)
        error = error_of(lambda path=path: minilm.load(path))
        assert error is None or type(error) is ValueError, (position, error)
        path.unlink()


@pytest.mark.parametrize(("family", "fields", "says"), [
    ("gpt2", {}, "architecture 'gpt2' is not supported"),
    ("llama", {"llama__rope__scaling__type": "yarn"}, "rope scaling 'yarn'")])
def test_what_is_not_supported(tmp_path, family, fields, says):
    """Guards a model computed as another one."""
    write(tmp_path / "m.gguf", tiny_model(vocab_size=300), family, Kind.F32, **fields)
    assert_clear_error(lambda: minilm.load(tmp_path / "m.gguf"), ValueError, says)


def test_a_missing_tensor_is_named(tmp_path):
    """Guards weights left random."""
    model = tiny_model(vocab_size=300)
    del model.layers[1].mlp.down
    with pytest.raises(AttributeError):
        model(random_ids(300, 1, 2))
    write(tmp_path / "m.gguf", model, "llama", Kind.F32)
    assert_clear_error(lambda: minilm.load(tmp_path / "m.gguf"), ValueError, "model.layers.1.mlp.down_proj", "missing")
