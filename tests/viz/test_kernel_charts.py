"""Tests of the kernel charts: who is drawn where, from rows as the benchmark records them."""
import pytest

from minilm.bench.kernel_cells import Attention, Rows
from minilm.viz import kernel_charts

LIMITS = {"copy": [3e12], "read": [3e12], "multiply": [8e14]}


def row(part, cell, name, seconds, **more):
    return {"part": part, "cell": cell.as_dict(), "name": name, "ours": name in kernel_charts.OURS,
            "paged": "paged" in name} | ({"seconds": [seconds] * 3} if seconds else {"refused": "no"}) | more


def measured(*rows):
    return {"rows": list(rows), "limits": LIMITS}


def dots(chart, axes=0):
    """label -> [(x, y)] of the lines drawn with a mark."""
    found = {}
    for line in chart.figure.axes[axes].lines:
        if not line.get_label().startswith("_"):
            found.setdefault(line.get_label(), []).extend(zip(*(map(float, d) for d in line.get_data()), strict=True))
    return found


def legend(chart):
    return [text.get_text() for text in chart.figure.legends[0].get_texts()]


def test_decode_marks_are_shares_of_the_copy_bandwidth():
    """Guards times in place of shares, lines of cells exchanged, and FlashInfer's slower kernel drawn."""
    small, large = Attention(1, 4096), Attention(64, 8192)
    chart = kernel_charts.read_shares(measured(
        row("decode", small, "flash_decoding", small.bytes / 1.5e12), row("decode", small, "SDPA flash", None),
        row("decode", large, "flash_decoding", large.bytes / 3e12),
        row("decode", large, "FlashInfer", large.bytes / 2.4e12),
        row("decode", large, "FlashInfer, CUDA cores", large.bytes / 1.2e12)))
    found = dots(chart)
    assert found["flash_decoding"] == [(pytest.approx(0.5), 0), (pytest.approx(1), 1)]
    assert found["FlashInfer"] == [(pytest.approx(0.8), 1)] and "SDPA flash" not in found
    assert legend(chart) == ["flash_decoding", "FlashInfer"]
    assert [t.get_text() for t in chart.figure.axes[0].get_yticklabels()] == ["B=1 T=4k   17 MB", "B=64 T=8k   2.1 GB"]


def test_prefill_has_a_panel_for_each_head_size():
    """Guards head sizes mixed in one line, and FLOP/s in the wrong unit."""
    cells = [Attention(1, t, t, head_size=d) for d in (64, 128) for t in (2048, 4096)]
    chart = kernel_charts.prefill_rates(measured(
        *(row("prefill", cell, "flash_attention", cell.flops / 4e14) for cell in cells),
        row("prefill", cells[3], "SDPA cuDNN", cells[3].flops / 5e14)))
    assert dots(chart, 0) == {"flash_attention": [(2048, pytest.approx(400)), (4096, pytest.approx(400))]}
    assert dots(chart, 1)["SDPA cuDNN"] == [(4096, pytest.approx(500))]


def test_verify_is_told_in_times_of_our_single_token():
    """Guards each line divided by its own first point, under which a slow peer looks as good."""
    cells = [Attention(8, 8192, m) for m in (1, 2)]
    chart = kernel_charts.verify_times(measured(
        row("verify", cells[0], "paged_attention", 1e-4), row("verify", cells[1], "paged_attention", 1.1e-4),
        row("verify", cells[0], "SDPA flash", 2e-4)))
    found = dots(chart)
    assert found["paged_attention"] == [(1, pytest.approx(1)), (2, pytest.approx(1.1))]
    assert found["SDPA flash"] == [(1, pytest.approx(2))]


def test_rows_are_told_in_shares_of_a_copy():
    shape = Rows(1024, 1024)
    chart = kernel_charts.row_shares(measured(
        row("rows", shape, "copy", 1e-4, operation="copy"),
        row("rows", shape, "softmax", 1.25e-4, operation="softmax"),
        row("rows", shape, "eager", 2e-4, operation="softmax"),
        row("rows", shape, "eager", None, operation="rms_norm")))
    assert [bar.get_height() for bar in chart.figure.axes[0].patches] == [pytest.approx(0.8), pytest.approx(0.5)]
    assert not chart.figure.axes[1].patches


@pytest.mark.parametrize("draw", ["read_shares", "prefill_rates", "verify_times", "row_shares"])
def test_charts_draw(draw):
    cells = {"read_shares": ("decode", Attention(1, 4096)), "prefill_rates": ("prefill", Attention(1, 2048, 2048)),
             "verify_times": ("verify", Attention(1, 8192)), "row_shares": ("rows", Rows(8, 8))}
    part, cell = cells[draw]
    rows = [row(part, cell, name, 1e-4, operation="copy" if draw == "row_shares" else None)
            for name in ("paged_attention", "FlexAttention", "someone new")]
    assert getattr(kernel_charts, draw)(measured(*rows)).png().startswith(b"\x89PNG")


def test_cuda_cores_are_named_where_they_stand_alone():
    """Guards FlashInfer's slower kernel under the name of both."""
    cell = Attention(1, 4096)
    alone = [row("decode", cell, "FlashInfer", None), row("decode", cell, "FlashInfer, CUDA cores", 1e-4)]
    assert list(kernel_charts.contestants(alone)) == ["FlashInfer, CUDA cores"]
    both = [row("decode", cell, "FlashInfer", 2e-4), row("decode", cell, "FlashInfer, CUDA cores", 1e-4)]
    assert kernel_charts.contestants(both)["FlashInfer"] is both[1]


def test_ours_and_peers_differ_by_mark_too():
    """Guards two contestants of one chart that only colour tells apart."""
    marks = [mark for name, (_, mark) in kernel_charts.STYLES.items() if name != "flash_attention"]
    assert len(set(marks)) == len(marks)
