"""A decode step on a paged cache by few launches a layer: the model's own states and logits, whatever the shape.

Each `check_...` can be run on its own; `mutants.kernels_step` names the check that each wrong version must fail.
"""
import pytest
import torch
from core_helpers import one_thread, tiny_model  # noqa: F401
from kernel_helpers import DEVICE, TOLERANCE, the_tests_of
from mutants import kernels_step as mutants

from minilm.cache import KVCache
from minilm.kernels import decode_layers, split_kv
from minilm.kernels.decode_layers import Tile
from minilm.model import GPT

SMALL = {"seed": 1, "vocab_size": 40, "width": 48, "num_heads": 2, "num_kv_heads": 1, "head_size": 32, "mlp_width": 40,
         "num_layers": 1, "max_positions": 64, "tie_embeddings": False, "norm_eps": 0.05}
DEEP = SMALL | {"num_layers": 2, "width": 72, "num_heads": 3, "num_kv_heads": 3, "tie_embeddings": True}
WIDE = SMALL | {"head_size": 64, "num_layers": 2, "num_heads": 6, "num_kv_heads": 2, "mlp_width": 72, "width": 48}
BROAD = SMALL | {"head_size": 128, "num_heads": 4, "num_layers": 2}
PLAIN, SHARED = Tile(16, 32, 32, 1, 4, 1, 0), Tile(16, 32, 16, 2, 4, 1, 0)  # small, so that there are many of all
FEW = Tile(2, 16, 64, 1, 4, 1, 0)                           # fewer rows than tensor cores want


@pytest.fixture(autouse=True)
def short_tiles(monkeypatch):
    """16 keys, so that short texts have several; from 64 on four programs share them."""
    monkeypatch.setattr(split_kv, "tile_of", lambda *_: (16, 3))
    monkeypatch.setattr(split_kv, "choose_splits", lambda *_: 4)
    monkeypatch.setattr(split_kv, "SHORT", 64)


class Texts:
    """B texts, each with a history in blocks dealt at random; the model in float64 on the same weights is the judge."""

    def __init__(self, model: GPT, judge: GPT, histories: tuple[int, ...], block_size: int, room: int = 24):
        c, self.model, self.judge, self.size = model.config, model, judge, block_size
        self.chance, B = torch.Generator().manual_seed(sum(histories)), len(histories)
        width = -(-(max(histories) + room) // block_size)
        self.tables = torch.randperm(B * width + 3, generator=self.chance)[: B * width].view(B, width)
        shape = (B * width + 3, block_size, c.num_kv_heads, c.head_size)
        self.pools = [[torch.full(shape, float("nan"), dtype=model.dtype) for _ in range(c.num_layers)]
                      for _ in range(2)]
        self.caches = [KVCache(c, dtype=torch.float64) for _ in histories]
        for b, (cache, held) in enumerate(zip(self.caches, histories, strict=True)):
            if held:
                judge.hidden(self.ids(1, held), cache)
            for layer in range(c.num_layers):
                for pools, kept in zip(self.pools, (cache.keys(layer), cache.values(layer)), strict=True):
                    flat = pools[layer].view(-1, *shape[2:])
                    flat[self.slots(b, range(held))] = kept[0, :, :held].transpose(0, 1).to(model.dtype)

    def ids(self, *shape: int) -> torch.Tensor:
        return torch.randint(self.model.config.vocab_size, shape, generator=self.chance)

    def slots(self, b: int, places) -> torch.Tensor:
        return torch.tensor([int(self.tables[b, i // self.size]) * self.size + i % self.size for i in places],
                            dtype=torch.int64)

    def step(self, layers, m: int, parents: list[list[int]] | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """(our hidden states and logits side by side, the judge's), [B · m, d + V], after m new tokens a text."""
        B = len(self.caches)
        ids, held = self.ids(B, m), [cache.length for cache in self.caches]
        want, positions, sees = [], [], torch.zeros(B, m, m, dtype=torch.bool)
        for b, cache in enumerate(self.caches):
            above = parents[b] if parents else list(range(-1, m - 1))
            depth = []
            for token, parent in enumerate(above):
                depth.append(depth[parent] + 1 if parent >= 0 else 0)
                sees[b, token] = sees[b, parent] if parent >= 0 else False
                sees[b, token, token] = True
            positions += [held[b] + d for d in depth]
            if parents:
                cache.branch(above)
            x = self.judge.hidden(ids[b : b + 1], cache)[0]
            want.append(torch.cat((x, self.judge.head(x)), -1))
        slots = torch.cat([self.slots(b, range(h, h + m)) for b, h in enumerate(held)])
        move = lambda t: t.to(DEVICE)                                                               # noqa: E731
        keys, values = ([move(pool) for pool in pools] for pools in self.pools)
        x = layers.hidden(move(ids.flatten()), move(torch.tensor(positions)), move(slots), keys, values,
                          move(self.tables.int()), move(torch.tensor(held, dtype=torch.int32) + m),
                          move(sees) if parents else None)
        self.pools = [[pool.cpu() for pool in pools] for pools in (keys, values)]
        return torch.cat((x, layers.logits(x)), -1).cpu(), torch.cat(want)


def made(shape: dict, histories: tuple[int, ...], m: int, dtype=torch.float32, block_size: int = 4,
         tile: Tile = PLAIN) -> tuple[Texts, "decode_layers.DecodeLayers"]:
    model = tiny_model(**shape).to(dtype)
    judge = tiny_model(**shape, dtype=torch.float64)
    judge.load_state_dict(model.state_dict())               # rounded as the model's
    layers = decode_layers.DecodeLayers(model.to(DEVICE), len(histories) * m, tiles=lambda *_: tile)
    return Texts(model, judge, histories, block_size), layers


def check(texts: Texts, layers, m: int, parents=None) -> None:
    with torch.inference_mode():
        got, want = texts.step(layers, m, parents)
    d = want.shape[1] - texts.model.config.vocab_size
    for part in (slice(0, d), slice(d, None)):
        error = ((got[:, part].double() - want[:, part]).norm(dim=-1) / want[:, part].norm(dim=-1)).max()
        assert error < TOLERANCE[texts.model.dtype], float(error)       # not so for nan


def check_one_row():
    """Fewer rows than tensor cores want. The second step reads what the first one wrote."""
    texts, layers = made(SMALL, (5,), 1, tile=FEW)
    for _ in range(2):
        check(texts, layers, 1)


def check_few_rows():
    """Three rows, two to a tile, in registers."""
    texts, layers = made(SMALL, (1, 0, 3), 1, tile=FEW)
    check(texts, layers, 1)


def check_rows():
    """Three texts of three lengths, the first without a history; sums shared by two programs."""
    texts, layers = made(SMALL, (0, 7, 4), 1, tile=SHARED)
    check(texts, layers, 1)


def check_two_tiles():
    """17 rows: the second tile of rows has one."""
    texts, layers = made(SMALL, (3,) * 17, 1)
    check(texts, layers, 1)


def check_deep():
    """Two layers, heads of their own, no dimension a multiple of a tile; two tiles of keys."""
    texts, layers = made(DEEP, (20,), 2)
    check(texts, layers, 2)


def check_tree():
    """Two texts, each a tree of its own, in chunks of two."""
    texts, layers = made(BROAD, (9, 2), 4)
    check(texts, layers, 4, [[-1, 0, 0, 1], [-1, -1, 1, 1]])


def check_half():
    """float16, three query heads to a key-value head; 4 programs share a text's keys, of which the second has few."""
    texts, layers = made(WIDE, (40, 0), 2, torch.float16, block_size=16)
    check(texts, layers, 2)


CHECKS = {check.__name__: check for check in (check_one_row, check_few_rows, check_rows, check_two_tiles, check_deep,
                                              check_tree, check_half)}
test_same_states, test_wrong_versions = the_tests_of(CHECKS, mutants.STEP)


@pytest.mark.parametrize("change", [{"head_size": 16}, {"head_size": 96}, {"qkv_bias": True}, {"qk_norm": True},
                                    {"dtype": torch.float64}])
def test_models_refused(change):
    model = tiny_model(**SMALL | change).to(DEVICE)
    assert not decode_layers.DecodeLayers.fits(model)
    with pytest.raises(ValueError, match="cannot run this model here"):
        decode_layers.DecodeLayers(model, 1)


@pytest.mark.parametrize("name, change, says", [
    ("ids", lambda t: t.int(), "ids must be int64"), ("ids", lambda t: t.repeat(2), "2 at most in all; it has 4"),
    ("positions", lambda t: t[:1], r"positions must have shape \[N=2\]; it has \[1\]"),
    ("slots", lambda t: t.repeat_interleave(2)[::2], "slots must be int64 and contiguous"),
    ("keys", lambda pools: pools * 2, "keys must be 1 pools, one a layer; there are 2"),
    ("values", lambda pools: [pools[0].half()], "values must be contiguous and torch.float32"),
    ("keys", lambda pools: [pools[0][..., :16]], "keys must have shape .*D=32"),
    ("tables", lambda t: t[:0], "for 0 sequences"), ("lengths", lambda t: t[:1], r"lengths must have shape \[B=2\]"),
    ("tree_mask", lambda _: torch.ones(1, 1), "tree_mask must be bool of shape"),
    ("tree_mask", lambda _: torch.ones(2, 2, dtype=torch.bool), "tree_mask must be bool of shape")])
def test_bad_steps(name, change, says):
    """Guards shapes that a launch would read past."""
    layers = decode_layers.DecodeLayers(tiny_model(**SMALL).to(DEVICE), 2)
    pool = torch.zeros(4, 4, 1, 32, device=DEVICE)
    numbers = torch.zeros(2, dtype=torch.int64, device=DEVICE)
    step = {"ids": numbers, "positions": numbers, "slots": numbers, "keys": [pool], "values": [pool],
            "tables": numbers.int().view(2, 1), "lengths": numbers.int() + 1, "tree_mask": None}
    with pytest.raises((ValueError, TypeError), match=says):
        layers.hidden(**step | {name: change(step[name])})


@pytest.mark.parametrize("x", [torch.zeros(3, 48), torch.zeros(2, 47), torch.zeros(2, 48, dtype=torch.float16),
                               torch.zeros(48, 2).T])
def test_bad_states(x):
    layers = decode_layers.DecodeLayers(tiny_model(**SMALL).to(DEVICE), 2)
    with pytest.raises(ValueError, match="x must"):
        layers.logits(x.to(DEVICE))


def test_the_same_every_time():
    """A sum shared by programs is added up in one order: the same bits again."""
    found = []
    for _ in range(2):
        texts, layers = made(SMALL, (2, 5), 1, tile=SHARED)
        found.append(texts.step(layers, 1)[0])
    assert torch.equal(*found)


@pytest.mark.parametrize("rows", [1, 2, 8, 16, 17, 32, 64, 65, 300])
@pytest.mark.parametrize("element", [2, 4])
def test_every_shape_has_a_tile(rows, element):
    """Whole heads and all outputs are covered, and no program asks for weights past its share."""
    for outputs, length, halves in ((6144, 4096, 64), (28672, 4096, 14336), (4096, 14336, 0), (128256, 2048, 0),
                                    (512, 256, 32), (1408, 256, 704), (97, 40, 0)):
        product = decode_layers.Product(outputs, length, rows, element, 132, 227 << 10, decode_layers.tile_for, halves)
        c = product.constants
        assert product.tiles * c["COLUMNS"] >= outputs and product.blocks * c["ROWS"] >= rows
        assert product.splits * c["SHARE"] >= length and c["AHEAD"] <= c["SHARE"] and c["COLUMNS"] <= 2 * (halves or 64)
        assert c["num_stages"] * (c["COLUMNS"] + c["ROWS"]) * c["DEPTH"] * element <= 227 << 10


@pytest.mark.gpu
@pytest.mark.parametrize("rows", [1, 5])
def test_recorded(rows):
    """A CUDA graph of a step, its inputs changed in place, gives what the step itself gives: bit for bit, twice."""
    model = tiny_model(**SMALL | {"width": 256, "num_heads": 8, "num_kv_heads": 2, "head_size": 64, "mlp_width": 512,
                                  "num_layers": 2}).to(DEVICE, torch.bfloat16)
    layers = decode_layers.DecodeLayers(model, rows)
    pools = [[torch.zeros(rows * 4, 16, 2, 64, dtype=torch.bfloat16, device=DEVICE) for _ in range(2)]
             for _ in range(2)]
    tables = torch.arange(rows * 4, dtype=torch.int32, device=DEVICE).view(rows, 4)
    ids, positions = (torch.zeros(rows, dtype=torch.int64, device=DEVICE) for _ in range(2))
    lengths = torch.ones(rows, dtype=torch.int32, device=DEVICE)
    slots = tables[:, 0].long() * 16

    def step() -> torch.Tensor:
        return layers.logits(layers.hidden(ids, positions, slots, *pools, tables, lengths))
    with torch.inference_mode():
        step()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = step()
        for place in range(40):
            for numbers in (positions, lengths):
                numbers.fill_(place + (numbers is lengths))
            slots.copy_(tables[:, place // 16] * 16 + place % 16)
            ids.copy_((ids * 7 + place) % 40)
            graph.replay()
            assert torch.equal(out, step()) and bool(out.isfinite().all())
