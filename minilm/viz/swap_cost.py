"""Swap a preempted text out and in again, or read it again? Seconds of both, on paper, by machine and model."""
from dataclasses import dataclass

from minilm.viz import html, svg, theme


@dataclass(frozen=True)
class Served:
    """A model on a machine. parameters; kv_bytes of a token; flops per second; link: bytes per second to the host."""

    name: str
    parameters: float
    layers: int
    kv_bytes: float
    flops: float
    link: float

    @property
    def crossover(self) -> float:
        """The link (bytes/s) at which both take equally long: KV · P / N. The text's length cancels out."""
        return self.kv_bytes * self.flops / self.parameters


# Data sheets: dense 16-bit peaks; links of PCIe 4 and 5 × 16, one way.
SERVED = (Served("OPT-13B, A100, PCIe 4", 13e9, 40, 2 * 40 * 5120 * 2, 312e12, 32e9),
          Served("Llama-3-8B, A100, PCIe 4", 8e9, 32, 2 * 32 * 8 * 128 * 2, 312e12, 32e9),
          Served("Llama-3-8B, H100, PCIe 5", 8e9, 32, 2 * 32 * 8 * 128 * 2, 989e12, 64e9))


def swap_seconds(served: Served, tokens: int, block_size: int = 16, setup: float = 0.0, reached: float = 1.0) -> float:
    """Out and in: 2 · S · KV / link, at `reached` of the link; and `setup` seconds to start each transfer.

    A block is 2 L transfers each way, since every layer keeps keys and values in tensors of their own.
    """
    blocks = -(-tokens // block_size)
    return 2 * blocks * (block_size * served.kv_bytes / (served.link * reached) + 2 * served.layers * setup)


def recompute_seconds(served: Served, tokens: int, reached: float = 1.0) -> float:
    """2 N S / P: one pass over all tokens at `reached` of the peak; without attention's own share."""
    return 2 * served.parameters * tokens / (served.flops * reached)


def view(tokens: int = 1000, block_size: int = 16, of_peak: float = 0.5, of_link: float = 0.5,
         setup_us: float = 1.0) -> str:
    """Both ways as bars, for each of SERVED. setup_us: microseconds to start a transfer."""
    left, wide, row = 176, 330, 50
    times = [(swap_seconds(served, tokens, block_size, setup_us * 1e-6, of_link),
              recompute_seconds(served, tokens, of_peak)) for served in SERVED]
    most = max(max(both) for both in times)
    shapes = [svg.label(0, 9, f"{tokens:,} tokens, blocks of {block_size}: milliseconds out and back, or to read again",
                        size=12.5, bold=True)]
    for i, (served, (swap, again)) in enumerate(zip(SERVED, times, strict=True)):
        y = 26 + row * i
        shapes += [svg.label(left - 8, y + 10, served.name, size=11.5, anchor="end"),
                   svg.label(left - 8, y + 25, f"equal at a link of {served.crossover * of_peak / 1e9:.1f} GB/s",
                             size=9.5, anchor="end", color=theme.MUTED)]
        for line, (said, seconds, color) in enumerate((("⇄ swap", swap, theme.SKY), ("↻ recompute", again,
                                                                                     theme.ORANGE))):
            best = seconds == min(swap, again)
            shapes += [svg.box(left, y + 1 + 18 * line, max(wide * seconds / most, 1), 15, fill=color, stroke="none",
                               radius=1),
                       svg.label(left + wide * seconds / most + 6, y + 9 + 18 * line,
                                 f"{said} {1e3 * seconds:.1f} ms{' ✓' if best else ''}", size=11, bold=best)]
    return html.card(svg.drawing(theme.PIXELS, 26 + row * len(SERVED), *shapes, title="swap or recompute"))
