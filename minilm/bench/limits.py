"""What this machine can do at best: how fast it reads memory, how fast it multiplies matrices.

The two numbers span the roofline (Williams, Waterman & Patterson 2009): a pass that does `f` operations on `b` bytes
takes at least max(f / flops_per_second, b / bytes_per_second). Both are measured with PyTorch's own kernels, over
several sizes, and the best run counts: another program on the machine can only make a run slower, never faster than
the hardware. All samples are kept.
"""
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

MATRIX_SIZES = {"cpu": (256, 512, 1024), "cuda": (4096, 8192)}
MEGABYTE = 1 << 20


@dataclass(frozen=True)
class Limits:
    """reads: samples of the memory's read rate, bytes/s.  multiplies: samples of the matrix rate, FLOP/s."""

    name: str
    reads: tuple[float, ...]
    multiplies: tuple[float, ...]

    def __post_init__(self):
        for what, samples in (("reads", self.reads), ("multiplies", self.multiplies)):
            if not samples or min(samples) <= 0:
                raise ValueError(f"{what} needs at least one sample, all above 0; it is {samples!r}")

    @property
    def bytes_per_second(self) -> float:
        """The best read rate seen."""
        return max(self.reads)

    @property
    def flops_per_second(self) -> float:
        """The best matrix rate seen."""
        return max(self.multiplies)

    @property
    def ridge(self) -> float:
        """FLOP per byte at which the two limits meet: below it memory sets the pace, above it arithmetic."""
        return self.flops_per_second / self.bytes_per_second

    def attainable(self, intensity: float) -> float:
        """The roof: FLOP/s that work of so many FLOP per byte can reach (Williams et al. 2009)."""
        if intensity <= 0:
            raise ValueError(f"arithmetic intensity must be above 0 FLOP per byte; it is {intensity}")
        return min(self.flops_per_second, intensity * self.bytes_per_second)

    def seconds(self, flops: float, num_bytes: float) -> float:
        """The least time for this work, with reading and multiplying at the same time."""
        return max(flops / self.flops_per_second, num_bytes / self.bytes_per_second)

    def as_dict(self) -> dict:
        """All samples and the two limits, to be recorded."""
        return {"benchmark": "limits", "name": self.name, "read_bytes_per_second": self.bytes_per_second,
                "flops_per_second": self.flops_per_second, "reads": list(self.reads),
                "multiplies": list(self.multiplies)}

    def __str__(self) -> str:
        return (f"{self.name}: reads {self.bytes_per_second / 1e9:,.1f} GB/s, multiplies "
                f"{self.flops_per_second / 1e9:,.0f} GFLOP/s, ridge at {self.ridge:.1f} FLOP/byte")


def measure(device: torch.device | str = "cpu", *, megabytes: int = 256, repeats: int = 7,
            dtype: torch.dtype = torch.float32) -> Limits:
    """Measure the limits of `device` with as many threads as PyTorch is set to use; about a second on a CPU.

    megabytes: size of the buffer that is read, well past the last cache. repeats: samples of each kernel and size.
    dtype: of the matrices; on a GPU float32 may run as TF32 where PyTorch is told so.
    Raises ValueError when there is no such device, or a number is below 1.
    """
    device = torch.device(device)
    if device.type not in MATRIX_SIZES or (device.type == "cuda" and not torch.cuda.is_available()):
        raise ValueError(f"no device {str(device)!r} to measure on this machine; there is cpu"
                         f"{', and cuda' if torch.cuda.is_available() else ''}")
    return Limits(_name(device), read_rates(device, megabytes=megabytes, repeats=repeats),
                  matrix_rates(device, MATRIX_SIZES[device.type], repeats=repeats, dtype=dtype))


def read_rates(device: torch.device | str, *, megabytes: int, repeats: int) -> tuple[float, ...]:
    """Bytes/s of reductions that read a buffer once and write next to nothing; samples of two different kernels."""
    if megabytes < 1:
        raise ValueError(f"megabytes must be at least 1; it is {megabytes}")
    buffer = torch.ones(megabytes * MEGABYTE // 4, device=device)
    size = buffer.numel() * buffer.element_size()
    kernels = (buffer.sum, lambda: torch.linalg.vector_norm(buffer))
    return tuple(size / s for kernel in kernels for s in time_runs(kernel, repeats, device))


def copy_rates(device: torch.device | str, *, megabytes: int, repeats: int) -> tuple[float, ...]:
    """Bytes/s of a copy from one buffer to another, bytes read and bytes written both counted."""
    if megabytes < 1:
        raise ValueError(f"megabytes must be at least 1; it is {megabytes}")
    source = torch.ones(megabytes * MEGABYTE // 4, device=device)
    target = torch.empty_like(source)
    size = 2 * source.numel() * source.element_size()
    return tuple(size / s for s in time_runs(lambda: target.copy_(source), repeats, device))


def matrix_rates(device: torch.device | str, sizes: tuple[int, ...], *, repeats: int,
                 dtype: torch.dtype = torch.float32) -> tuple[float, ...]:
    """FLOP/s of square products [n, n] @ [n, n], 2n³ operations each, for every n in `sizes`."""
    rates = []
    for n in sizes:
        a = torch.randn(n, n, device=device, dtype=dtype, generator=torch.Generator(device).manual_seed(0))
        rates += [2 * n ** 3 / s for s in time_runs(lambda a=a: a @ a, repeats, device)]
    return tuple(rates)


def time_runs(run: Callable[[], object], repeats: int, device: torch.device | str = "cpu") -> list[float]:
    """Seconds of `repeats` runs, after one that warms up. On a GPU each waits until the work is done."""
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1; it is {repeats}")
    wait = torch.cuda.synchronize if torch.device(device).type == "cuda" else lambda: None
    with torch.inference_mode():
        run()
        wait()
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            run()
            wait()
            seconds.append(time.perf_counter() - start)
    return seconds


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"this CPU, {threads} thread{'s' * (threads > 1)}"
