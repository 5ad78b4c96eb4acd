"""When to cut a model over GPUs, when to run copies of it: a cost model of bytes, operations and exchanges.

A decode step on one of `ranks` GPUs reads its share of weights, keys and values, multiplies its share, and waits for
two all-reduces a layer and for one all-gather of the logits. Nothing overlaps with an exchange, and nothing else is
counted: no launches, no scheduler. So the model says what cutting can bring at best, and where it cannot bring
anything.
"""
from collections.abc import Sequence
from dataclasses import dataclass

from minilm.bench.cost import forward_pass, kv_bytes_per_token, weight_bytes
from minilm.model import GPTConfig

NUMBER = 2                                  # bytes of a weight, a key, a hidden number: bfloat16

LLAMA_8B = GPTConfig(128_256, 32, 4096, 32, 8, 128, 14_336, max_positions=131_072, tie_embeddings=False)
LLAMA_70B = GPTConfig(128_256, 80, 8192, 64, 8, 128, 28_672, max_positions=131_072, tie_embeddings=False)


@dataclass(frozen=True)
class Machine:
    """One GPU and its link to the others. read, link: bytes/s; rate: FLOP/s; latency: seconds of the smallest
    all-reduce; memory: bytes."""

    read: float
    rate: float
    link: float
    latency: float
    memory: float


# Read and rate are what one H100 gave in this course; the link's rate is what 4 H100 gave an all-reduce elsewhere
# (lesson 13 has the source); the latency is an assumption, and the first thing to measure on a machine of your own.
H100 = Machine(read=3.0e12, rate=798e12, link=366e9, latency=10e-6, memory=80e9)
PCIE = Machine(read=3.0e12, rate=798e12, link=25e9, latency=30e-6, memory=80e9)         # both link numbers assumed


@dataclass(frozen=True)
class Step:
    """Seconds of one decode step, by what they are spent on."""

    weights: float
    kv: float
    exchange: float

    @property
    def seconds(self) -> float:
        return self.weights + self.kv + self.exchange


def all_reduce_seconds(ranks: int, num_bytes: float, machine: Machine) -> float:
    """One all-reduce: each rank sends and receives 2(n − 1)/n times the bytes (ring), after a latency. 0 for one."""
    if ranks == 1:
        return 0.0
    return machine.latency + 2 * (ranks - 1) / ranks * num_bytes / machine.link


def all_gather_seconds(ranks: int, num_bytes: float, machine: Machine) -> float:
    """One all-gather of `num_bytes` in all: each rank sends and receives (n − 1)/n of them (ring), after a latency,
    taken to be that of a small all-reduce. 0 for one rank."""
    if ranks == 1:
        return 0.0
    return machine.latency + (ranks - 1) / ranks * num_bytes / machine.link


def decode_step(config: GPTConfig, batch: int, context: int, ranks: int, machine: Machine) -> Step:
    """A step that gives each of `batch` texts of `context` tokens one more, with the model cut over `ranks` GPUs."""
    whole = forward_pass(config, 1, context, batch=batch, bytes_per_number=NUMBER)
    kv = batch * kv_bytes_per_token(config, NUMBER) * context / ranks / machine.read
    matrices = max(weight_bytes(config, NUMBER) / ranks / machine.read, whole.flops / ranks / machine.rate - kv)
    exchange = (2 * config.num_layers * all_reduce_seconds(ranks, batch * config.width * NUMBER, machine)
                + all_gather_seconds(ranks, batch * config.vocab_size * NUMBER, machine))
    return Step(matrices, kv, exchange)


def held(config: GPTConfig, texts: int, context: int, ranks: int) -> float:
    """Bytes on each GPU: its share of the weights, the whole embedding, its share of keys and values."""
    return ((weight_bytes(config, NUMBER) + texts * context * kv_bytes_per_token(config, NUMBER)) / ranks
            + config.vocab_size * config.width * NUMBER)


@dataclass(frozen=True)
class Plan:
    """`replicas` copies of the model, each cut over `ranks` GPUs. step: of one copy. tokens_per_second: of all."""

    ranks: int
    replicas: int
    step: Step
    tokens_per_second: float
    fits: bool


def plans(config: GPTConfig, gpus: int, texts: int, context: int, machine: Machine) -> list[Plan]:
    """Every way to use `gpus` GPUs for `texts` texts at once, by ranks; texts are dealt evenly to the copies."""
    found = []
    for ranks in (n for n in range(1, gpus + 1) if gpus % n == 0 and config.num_kv_heads % n == 0):
        replicas = gpus // ranks
        each = -(-texts // replicas)
        step = decode_step(config, each, context, ranks, machine)
        found.append(Plan(ranks, replicas, step, texts / step.seconds,
                          held(config, each, context, ranks) <= machine.memory))
    return found


def fastest(options: Sequence[Plan]) -> Plan | None:
    """The plan with the most tokens a second, of those that fit; None if none does. With all texts served at once it
    is also the one in which a text gets its next token first."""
    return max((plan for plan in options if plan.fits), key=lambda plan: plan.tokens_per_second, default=None)
