"""A pass on paper: its bytes, FLOPs and launches in parts, and the seconds that a machine's ceilings make of them.

A part takes max(bytes / bandwidth, FLOPs / matrix rate) + launches · the floor of one launch: the roofline (Williams et
al. 2009) with what it leaves out, the time to get anything going at all. Where products do not reach that roof, it may
be given as measured: the rate at which weights go through a product of so many rows, alone.
"""
import dataclasses
from dataclasses import dataclass
from itertools import pairwise

from minilm.bench.cost import head_weights, kv_bytes_per_token, layer_weights
from minilm.checks import check_count
from minilm.model import GPTConfig

WEIGHTS, KV, FLOPS, LAUNCHES = "weights", "KV", "FLOPs", "launches"


@dataclass(frozen=True)
class Machine:
    """Three measured ceilings: bytes/s of reading, FLOP/s of matrix products, seconds of the least operation.

    products: (rows, bytes of weights a second) of matrix products measured alone, by rows; between them the time is
    interpolated, past them it grows with the rows. Without it products reach the other two ceilings.
    """

    bytes_per_second: float
    flops_per_second: float
    launch_seconds: float
    products: tuple[tuple[int, float], ...] = ()

    def __post_init__(self):
        if not (self.bytes_per_second > 0 and self.flops_per_second > 0 and self.launch_seconds >= 0):
            raise ValueError(f"a machine needs rates above 0 and launches of 0 seconds or more; got {self}")
        rows = [rows for rows, _ in self.products]
        if rows != sorted(set(rows)) or any(rows < 1 or not rate > 0 for rows, rate in self.products):
            raise ValueError(f"products are (rows, rate), by rows, from 1, with rates above 0; got {self.products}")

    def product_seconds(self, num_bytes: float, rows: float) -> float:
        """Reading `num_bytes` of weights in a product of so many rows, by `products`."""
        known = [(count, 1 / rate) for count, rate in self.products]
        if rows >= known[-1][0]:
            return num_bytes * known[-1][1] * rows / known[-1][0]
        for (low, before), (high, after) in pairwise(known):
            if low <= rows:
                found = before + (after - before) * (rows - low) / (high - low)
            if rows <= high:
                break
        return num_bytes * (found if rows > known[0][0] else known[0][1])


@dataclass(frozen=True)
class Launches:
    """Operations started by a pass: in each layer, beside the layers, and in a vocabulary product. They are counted."""

    per_layer: float = 0.0
    once: float = 0.0
    head: float = 0.0


@dataclass(frozen=True)
class Part:
    """Reading and multiplying that overlap. reads: what its bytes are, WEIGHTS or KV.  rows: of a product, else 0."""

    reads: str
    bytes: float
    flops: float
    launches: float = 0.0
    rows: float = 0.0

    def overlapped(self, machine: Machine) -> float:
        """Seconds of reading and multiplying."""
        if self.rows and machine.products:
            return machine.product_seconds(self.bytes, self.rows)
        return max(self.bytes / machine.bytes_per_second, self.flops / machine.flops_per_second)

    def seconds(self, machine: Machine) -> float:
        return self.overlapped(machine) + self.launches * machine.launch_seconds


@dataclass(frozen=True)
class Work:
    """Parts that run one after the other. Works add up; a number times a work is that many of it."""

    parts: tuple[Part, ...] = ()

    def __add__(self, other: "Work") -> "Work":
        return Work(self.parts + other.parts)

    def __rmul__(self, times: float) -> "Work":
        return Work(tuple(Part(p.reads, times * p.bytes, times * p.flops, times * p.launches, p.rows)
                          for p in self.parts))

    def seconds(self, machine: Machine) -> float:
        return sum(part.seconds(machine) for part in self.parts)

    def shares(self, machine: Machine) -> dict[str, float]:
        """Seconds that go to reading weights, reading keys and values, multiplying, launching; they sum to `seconds`.

        Of reading and multiplying, which overlap, the longer one counts.
        """
        found = dict.fromkeys((WEIGHTS, KV, FLOPS, LAUNCHES), 0.0)
        for part in self.parts:
            reading, multiplying = part.bytes / machine.bytes_per_second, part.flops / machine.flops_per_second
            found[part.reads if reading >= multiplying else FLOPS] += part.overlapped(machine)
            found[LAUNCHES] += part.launches * machine.launch_seconds
        return found

    def binds(self, machine: Machine) -> str:
        """What takes most of the time."""
        shares = self.shares(machine)
        return max(shares, key=shares.__getitem__)


@dataclass(frozen=True)
class Model:
    """A model as this page sees it: its shape, bytes of a number, and launches of a pass."""

    config: GPTConfig
    bytes_per_number: float = 2
    launches: Launches = Launches()

    def layers(self, batch: int = 1, width: int = 1, context: float = 0, count: float | None = None) -> Work:
        """`count` layers (default: all) over `width` tokens in each of `batch` texts of `context` tokens."""
        _check_pass(batch, width, context)
        c, b = self.config, self.bytes_per_number
        count = c.num_layers if count is None else count
        if not 0 <= count <= c.num_layers:
            raise ValueError(f"the model has {c.num_layers} layers; {count} were asked for")
        share, rows = count / c.num_layers, batch * width
        numbers = share * layer_weights(c)
        seen = width * context + width * (width + 1) / 2                       # new token i sees i new ones
        return Work((
            Part(WEIGHTS, b * numbers, 2 * rows * numbers, count * self.launches.per_layer, rows),
            Part(KV, share * batch * kv_bytes_per_token(c, b) * (context + 2 * width),
                 4 * batch * count * c.num_heads * c.head_size * seen)))

    def head(self, rows: int = 1) -> Work:
        """The vocabulary product of `rows` states; its logits are written and read again."""
        numbers = head_weights(self.config)
        logits = 2 * rows * self.config.vocab_size
        return Work((Part(WEIGHTS, self.bytes_per_number * numbers, 2 * rows * numbers, self.launches.head, rows),
                     Part(WEIGHTS, self.bytes_per_number * logits, 0.0)))

    def forward(self, batch: int = 1, width: int = 1, context: float = 0, heads: int | None = None) -> Work:
        """A whole pass. heads: rows that get logits (default: all)."""
        once = Work((Part(WEIGHTS, 0.0, 0.0, self.launches.once),))
        return self.layers(batch, width, context) + self.head(batch * width if heads is None else heads) + once

    def cut(self, layers: int) -> "Model":
        """Its first `layers` layers as a model."""
        return dataclasses.replace(self, config=dataclasses.replace(self.config, num_layers=layers))


def _check_pass(batch: int, width: int, context: float) -> None:
    check_count("batch", batch, 1)
    check_count("width", width, 1)
    if not context >= 0:
        raise ValueError(f"context is a number of tokens held, 0 or more; it is {context}")
