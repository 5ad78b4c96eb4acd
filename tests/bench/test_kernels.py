"""`minilm bench kernels` on the CPU: bytes, FLOPs, references, ratios, turns, refusals. No time is measured here."""
import math

import pytest
import torch

from minilm.bench import kernel_cells, kernel_peers, kernel_report, kernel_timing, kernels, limits, record
from minilm.bench.kernel_cells import Attention, Inputs, Rows
from minilm.bench.kernel_peers import Contestant

SMALL = Attention(2, 32, 3, heads=4, kv_heads=2, head_size=16)
FOUND = {"copy": [2e12, 3e12], "read": [3e12], "multiply": [8e14]}


# --- cells -----------------------------------------------------------------------------------------------------------

def test_bytes_of_a_decode_cell():
    """Guards bytes counted for query heads in place of key-value heads, or elements in place of bytes."""
    cell = Attention(1, 4096)
    assert cell.kv_bytes == 2 * 4096 * 8 * 128 * 2 == 16_777_216
    assert cell.bytes - cell.kv_bytes == 2 * 32 * 128 * 2


@pytest.mark.parametrize("queries", [1, 3, 32])
def test_flops_are_what_the_mask_leaves(queries):
    """Guards credit for masked keys: 4 D FLOPs for every pair of query and key that the mask lets through."""
    cell = Attention(2, 32, queries, heads=4, kv_heads=2, head_size=16)
    pairs = torch.ones(queries, 32).tril(32 - queries).sum().item()
    assert cell.flops == 2 * 4 * pairs * 4 * 16


def test_the_grid_has_the_cells_that_were_asked_for():
    """Guards a cell that goes missing: 17 MB, 134 MB and 512 MB and more of keys and values."""
    sizes = {(cell.batch, cell.context): cell.kv_bytes / 1e6 for cell in kernel_cells.DECODE}
    for cell, megabytes in {(1, 4096): 17, (1, 32768): 134, (8, 4096): 134, (1, 131072): 537, (64, 1024): 268,
                            (8, 32768): 1074, (64, 8192): 2147, (256, 256): 268}.items():
        assert round(sizes[cell]) == megabytes
    assert {cell.queries for cell in kernel_cells.VERIFY} == {1, 2, 4, 8}
    assert min(cell.context for cell in kernel_cells.VERIFY) == 8192
    assert {(c.context, c.head_size) for c in kernel_cells.PREFILL} == {(1024 * t, d) for t in (2, 4, 8, 16)
                                                                        for d in (64, 128)}


def test_rows_are_read_and_written_once():
    assert Rows(10, 100).bytes == 4000


def test_more_queries_than_context_are_refused():
    with pytest.raises(ValueError, match="don't fit in a context of 2"):
        Attention(1, 2, 3)


@pytest.mark.parametrize("chunk", [2, 2048])
@pytest.mark.parametrize("queries", [1, 3, 32])
def test_reference_is_causal_attention_in_float64(queries, chunk):
    """Guards a mask aligned to the first key, chunks that see too little, and heads that read another's keys."""
    cell = Attention(2, 32, queries, heads=4, kv_heads=2, head_size=16)
    x = Inputs(cell, seed=0, device="cpu")
    k, v = (y.double().repeat_interleave(2, 1) for y in (x.k, x.v))
    mask = torch.ones(queries, 32, dtype=torch.bool).tril(32 - queries)
    want = torch.nn.functional.scaled_dot_product_attention(x.q.double(), k, v, attn_mask=mask)
    assert kernel_timing.relative_error(kernel_cells.reference(x, chunk), want) < 1e-14


def test_the_paged_cache_is_the_same_cache():
    """Guards tables and blocks that don't belong together, and tables that differ from set to set."""
    x, y = (Inputs(SMALL, seed, "cpu") for seed in (0, 1))
    for cache, table in ((x.paged, x.tables), (x.ordered, x.in_order)):
        for blocks, plain in zip(cache, (x.k, x.v), strict=True):
            assert torch.equal(blocks[table.long()].reshape(2, 32, 2, 16).transpose(1, 2), plain)
    assert torch.equal(x.tables, y.tables) and not torch.equal(x.k, y.k)
    assert not torch.equal(x.tables, x.in_order)


# --- timing ----------------------------------------------------------------------------------------------------------

def test_sets_exceed_the_cache_together():
    """Guards one set: a second replay would then read from L2."""
    assert kernel_timing.sets_needed(17e6) * 17e6 >= 8 * 50e6
    assert kernel_timing.sets_needed(5e9) == 2


@pytest.mark.parametrize(("seconds", "sets", "launches"), [(5e-6, 25, 400), (1e-3, 2, 2), (1e-3, 3, 3), (1.0, 2, 2),
                                                           (1e-9, 7, 406), (1e-4, 8, 24)])
def test_launches_fill_a_replay_and_use_every_set_equally(seconds, sets, launches):
    assert kernel_timing.launches_needed(seconds, sets) == launches


def test_rounds_interleave_and_begin_with_another():
    """Guards blocks of one contestant (the card's clock drifts), and a warm-up round that counts."""
    order, clock = [], iter(range(100))
    runs = {name: lambda name=name: order.append(name) or next(clock) for name in "abc"}
    seconds = kernel_timing.in_turn(runs, 2)
    assert "".join(order) == "abcbcacab"
    assert seconds == {"a": [5, 7], "b": [3, 8], "c": [4, 6]}


def test_ratios_are_paired_and_means_geometric():
    """Guards the ratio of medians, which a drifting clock bends, and the arithmetic mean, which flatters."""
    assert kernel_timing.paired_ratio([2, 40, 3], [1, 10, 1]) == 3
    assert kernel_timing.geometric_mean([0.5, 2]) == pytest.approx(1)


@pytest.mark.parametrize("out", [torch.tensor([1.0, math.nan]), torch.tensor([1.0, math.inf]), torch.ones(1, 2)])
def test_error_is_infinite_for_what_is_no_result(out):
    """Guards a NaN that passes every comparison."""
    assert kernel_timing.relative_error(out, torch.ones(2)) == math.inf


def test_error_is_relative_to_the_whole():
    assert kernel_timing.relative_error(torch.tensor([3.0, 4.5]), torch.tensor([3.0, 4.0])) == pytest.approx(0.1)


@pytest.mark.parametrize("call", [
    lambda: kernel_timing.sets_needed(0), lambda: kernel_timing.launches_needed(0, 1),
    lambda: kernel_timing.in_turn({}, 0), lambda: kernel_timing.geometric_mean([]),
    lambda: kernels.measure(("decoding",)), lambda: limits.copy_rates("cpu", megabytes=0, repeats=1)])
def test_bad_input_is_one_clear_error(call):
    with pytest.raises(ValueError, match="at least|decode, verify"):
        call()


def test_copies_count_both_ways(monkeypatch):
    """Guards a copy's bytes counted once."""
    monkeypatch.setattr(limits, "time_runs", lambda run, repeats, device="cpu": [2.0] * repeats)
    assert limits.copy_rates("cpu", megabytes=1, repeats=2) == (2 ** 20, 2 ** 20)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_is_said():
    with pytest.raises(ValueError, match="needs a CUDA GPU"):
        kernels.measure()


# --- who is timed ----------------------------------------------------------------------------------------------------

@pytest.fixture
def scripted(monkeypatch):
    """Cells on the CPU, and replays that say what they were told; gives the names of those that were replayed."""
    replayed = []

    class Scripted:
        captured, why = True, ""

        def __init__(self, calls, launches):
            replayed.append((len(calls), launches))
            self.seconds = iter([9.0, 1.0, 2.0, 3.0])

        def __call__(self):
            return next(self.seconds)
    monkeypatch.setattr(kernels, "Replay", Scripted)
    monkeypatch.setattr(kernels, "Inputs", lambda cell, seed: Inputs(cell, seed, "cpu"))
    monkeypatch.setattr(kernels, "sets_needed", lambda num_bytes: 2)
    return replayed


def right(cell, sets):
    return [lambda x=x: kernel_cells.reference(x).to(torch.bfloat16) for x in sets]


def wrong(cell, sets):
    """As by a mask that is one key off: each query misses its own key."""
    return [lambda x=x: kernel_cells.reference(x).roll(1, 2) for x in sets]


def broken(cell, sets):
    raise NotImplementedError("no\nsuch head size")


def test_a_wrong_kernel_is_not_timed(scripted):
    """Guards a fast wrong answer in the table, and one failure that takes all others with it."""
    field = [Contestant("wrong", wrong, ours=True), Contestant("broken", broken), Contestant("right", right),
             Contestant("nan", lambda c, s: [lambda x=x: x.q * math.nan for x in s])]
    rows = {row["name"]: row for row in kernels.attention_rows("verify", SMALL, field, 3, FOUND)}
    assert "seconds" not in rows["wrong"] and "exceeds 5e-03" in rows["wrong"]["refused"]
    assert rows["wrong"]["error"] > 0.1
    assert rows["broken"]["refused"] == "NotImplementedError: no such head size"
    assert "seconds" not in rows["nan"] and "exceeds" in rows["nan"]["refused"]
    assert rows["right"]["seconds"] == [1.0, 2.0, 3.0] and rows["right"]["error"] < 3e-3
    assert scripted == [(2, 400)]                               # one replay, of the right one, over both sets


def test_every_part_and_cell_is_measured(monkeypatch):
    """Guards a part that runs and is not recorded, a cell measured against another field, and rounds that are lost."""
    seen = []

    def note(part, cell, field, rounds, found):
        seen.append((part, cell, field[0].name, rounds))
        return [row(field[0].name, [1e-5], cell, part=part, ours=True)]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(kernels, "ceilings", lambda rounds: FOUND)
    monkeypatch.setattr(kernels, "attention_rows", note)
    monkeypatch.setattr(kernels, "normaliser_cell", lambda shape, rounds, found: [
        row("copy", [1e-4], shape, part="rows", operation="copy")])
    monkeypatch.setattr(kernels, "same_bits", lambda **options: {"2": "split_size" in options})
    told = []
    measured = kernels.measure(rounds=4, on_update=told.append)
    want = [("decode", c, "flash_decoding", 4) for c in kernel_cells.DECODE]
    want += [("verify", c, "paged_attention", 4) for c in kernel_cells.VERIFY]
    want += [("splits", c, "heuristic", 4) for c in kernels.SPLIT_CELLS]
    want += [("prefill", c, "flash_attention", 4) for c in kernel_cells.PREFILL]
    assert seen == want
    assert len([r for r in measured["rows"] if r["part"] == "rows"]) == len(kernel_cells.ROWS)
    assert [r["same_bits"]["2"] for r in measured["rows"] if "same_bits" in r] == [False, True, True, True]
    assert (measured["limits"], measured["rounds"], measured["versions"]["torch"]) == (FOUND, 4, torch.__version__)
    assert "decode B=1 T=4k: flash_decoding 10.0 µs" in told


@pytest.mark.parametrize("name", [kernel_peers.FLASH, kernel_peers.CUDNN])
def test_peers_of_pytorch_get_the_mask_of_the_cell(monkeypatch, name):
    """Guards a mask aligned to the first key: by PyTorch's plain backend the answers are the reference's."""
    peers = {c.name: c for make in (kernel_peers.decoders, kernel_peers.prefillers) for c in make(SMALL)}
    monkeypatch.setattr(kernel_peers, "sdpa_kernel", lambda backend: torch.no_grad())
    for queries in (1, 32):
        x = Inputs(Attention(2, 32, queries, heads=4, kv_heads=2, head_size=16), 0, "cpu")
        [call] = peers[name].make(x.cell, [x])
        assert kernel_timing.relative_error(peers[name].view(call()), kernel_cells.reference(x)) < kernels.BOUND


def test_each_field_has_ours_and_names_differ():
    """Guards two contestants of one name, whose times would mix."""
    for field in (kernel_peers.decoders(SMALL), kernel_peers.decoders(Attention(1, 32)),
                  kernel_peers.verifiers(SMALL), kernel_peers.prefillers(SMALL)):
        assert len({c.name for c in field}) == len(field) and field[0].ours and not field[-1].ours


@pytest.mark.parametrize("operation", ["softmax", "rms_norm"])
def test_row_kernels_agree_with_float64(operation):
    """Guards an epsilon or a weight that the reference lacks."""
    x, weight = torch.randn(4, 64), torch.randn(64)
    want = kernel_peers.row_reference(operation, x, weight)
    for name, run in kernel_peers.row_kernels(weight)[operation].items():
        if name != operation:
            assert kernel_timing.relative_error(run(x), want) < 1e-6


# --- what the rows say -----------------------------------------------------------------------------------------------

def row(name, seconds, cell=None, *, part="decode", ours=False, paged=False, **more):
    cell = Attention(1, 4096) if cell is None else cell
    return {"part": part, "cell": cell.as_dict(), "name": name, "ours": ours, "paged": paged, "error": 1e-3,
            "captured": True} | ({"seconds": seconds} if seconds else {}) | more


MEASURED = [row("flash_decoding", [1e-5, 2e-5, 1e-5], ours=True),
            row("paged_attention", [2e-5] * 3, ours=True, paged=True),
            row("peer", [2e-5, 4e-5, 4e-5]), row("slow", [9e-5] * 3), row("FlashInfer paged", [3e-5] * 3, paged=True),
            row("absent", None, refused="not installed")]
REST = [row("fixed 256", [2e-5], part="splits", ours=True), row("heuristic", [1e-5], part="splits", ours=True),
        row("flash_attention", [1e-3], Attention(1, 2048, 2048), part="prefill", ours=True),
        row("SDPA flash", [2e-3], Attention(1, 2048, 2048), part="prefill"),
        row("copy", [1e-4], Rows(8, 8), part="rows", operation="copy"),
        row("softmax", [2e-4], Rows(8, 8), part="rows", operation="softmax", ours=True),
        {"part": "splits", "name": "fixed 256", "ours": True, "same_bits": {"2": True}}]


def test_share_of_the_limit():
    """Guards the median sample of the limit: the limit is the best that was seen."""
    assert kernel_report.read_share(MEASURED[0], FOUND) == pytest.approx(Attention(1, 4096).bytes / 1e-5 / 3e12)
    assert kernel_report.flop_rate(REST[2]) == pytest.approx(Attention(1, 2048, 2048).flops / 1e-3)


def test_lead_is_over_the_best_peer():
    """Guards a lead over the slowest, over ourselves, over one who didn't run; and the ratio turned round."""
    peer = kernel_report.best_peer(MEASURED)
    assert peer["name"] == "FlashInfer paged"                   # by its median, 30 µs
    assert kernel_report.best_peer(MEASURED, paged=False)["name"] == "peer"
    assert kernel_report.lead(MEASURED, "flash_decoding", MEASURED[2]) == 2
    assert kernel_report.leads(MEASURED, "decode", "paged_attention", paged=True) == {"B=1 T=4k": pytest.approx(1.5)}
    assert kernel_report.lead(MEASURED, "absent", peer) is None and kernel_report.best_peer([]) is None


def test_price_is_slower_over_faster():
    assert kernel_report.price(REST[:2], "fixed 256", "heuristic") == 2


def test_what_blocks_and_more_tokens_cost():
    """Guards the ratios turned round, and a growth from the wrong number of tokens."""
    assert kernel_report.paging(MEASURED) == {"B=1 T=4k": pytest.approx(2)}
    rows = [row("paged_attention", [seconds], Attention(8, 8192, m), part="verify", ours=True)
            for m, seconds in ((1, 1e-4), (2, 3e-4), (8, 1.2e-4))]
    assert kernel_report.growth(rows) == {"B=8 T=8k m=8": pytest.approx(1.2)}
    assert kernel_report.growth(rows[1:]) == {}


def test_all_is_shown():
    """Guards parts that are measured and not shown, and refusals that nobody reads."""
    text = kernel_report.show({"rows": MEASURED + REST, "limits": FOUND, "rounds": 3})
    for words in ("copy 3.00 TB/s", "17 MB", "0.56", "flash_decoding, times the best peer: geometric mean 3.00",
                  "paged_attention, times the best paged peer: geometric mean 1.50", "T=2k D=128", "2.00",
                  "softmax: share of a copy", "0.50",
                  "fixed 256, times the heuristic: geometric mean 2.000",
                  "not timed: absent at B=1 T=4k: not installed", "{'2': True}"):
        assert words in text


@pytest.mark.parametrize("name", ["h100_kernels"])
def test_recorded_runs_can_be_read(name):
    """Guards a record that lessons can't draw: rows without raw rounds, an error out of bounds, no versions."""
    recorded = record.read(name)
    for row in kernel_report.timed(recorded["rows"]):
        assert len(row["seconds"]) == recorded["rounds"] and min(row["seconds"]) > 0 and row["error"] <= kernels.BOUND
    assert recorded["versions"]["flashinfer"] and recorded["machine"]["gpu"]
    assert "copy 3.0" in kernel_report.show(recorded) or name != "h100_kernels"


@pytest.mark.gpu
def test_on_a_gpu_one_cell_runs():
    """Guards what no CPU can show: capture, replay, and the peers' own calls."""
    field = kernel_peers.decoders(Attention(1, 4096))
    with torch.no_grad():
        rows = kernels.attention_rows("decode", Attention(1, 4096), field[:4], 2, FOUND)
    assert all(len(r["seconds"]) == 2 and 1e-6 < min(r["seconds"]) < 1e-2 for r in rows), rows
