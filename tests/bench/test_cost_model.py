"""The cost model against sums done by hand, at its limits, and against wrong versions of itself."""
import pytest
from core_helpers import assert_clear_error
from mutants import cost_model as mutants

from minilm.bench import cost_model
from minilm.bench.cost_model import FLOPS, KV, LAUNCHES, WEIGHTS, Launches, Machine, Model
from minilm.model import GPTConfig

# 2 layers of 4·4 (qkv: 4 × (2 + 2·1)·2 = 32) + out 4·4 = 16 + mlp 3·4·6 = 72: 120 numbers a layer; head 10 · 4 = 40.
CONFIG = GPTConfig(vocab_size=10, num_layers=2, width=4, num_heads=2, num_kv_heads=1, head_size=2, mlp_width=6,
                   max_positions=64)
TARGET = Model(CONFIG, 2, Launches(per_layer=5, once=3, head=2))
SMALL = Model(GPTConfig(vocab_size=10, num_layers=1, width=2, num_heads=1, num_kv_heads=1, head_size=2, mlp_width=2,
                        max_positions=64), 2)
READS = Machine(1.0, 1e12, 0.0)                     # seconds = bytes
MULTIPLIES = Machine(1e12, 1.0, 0.0)                # seconds = FLOPs
STARTS = Machine(1e12, 1e12, 1.0)                   # seconds = launches
EIGHT = Model(GPTConfig(128256, 32, 4096, 32, 8, 128, 14336, 8192, tie_embeddings=False), 2, Launches(15, 5, 2))
ONE = Model(GPTConfig(128256, 16, 2048, 32, 8, 64, 8192, 8192), 2, Launches(15, 5, 2))
H100 = Machine(3.0e12, 798e12, 1.5e-6)              # the ceilings that the project has measured


def close(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-6 * abs(b)


def check_pass():
    """One pass, by hand: bytes, FLOPs and launches of every part."""
    # B 3, m 2, S 5.  Weights 2 B a number: 240 · 2 = 480; head 40 · 2 = 80; logits 6 rows · 10 · 2 B, written and read.
    # A token's keys and values: 2 · 2 layers · 1 · 2 · 2 B = 16 B; each text reads 5 and writes and reads 2 new ones.
    work = TARGET.forward(3, 2, 5)
    assert close(work.seconds(READS), 480 + (80 + 2 * 60 * 2) + 3 * 16 * (5 + 4))
    # FLOPs: 6 rows · 2 · (240 + 40); attention 4 · 2 layers · 4 · seen (6 + 7 a text, 3 texts).
    assert close(work.seconds(MULTIPLIES), 12 * 280 + 4 * 2 * 4 * 13 * 3)
    assert close(work.seconds(STARTS), 2 * 5 + 3 + 2)
    assert close(TARGET.layers(1, 1, 0, 1).seconds(READS), 240 + 2 * 8)
    one = TARGET.forward(3, 2, 5, heads=1)              # a prefill needs the last token's logits alone
    assert close(work.seconds(READS) - one.seconds(READS), 2 * 50 * 2)


def check_binds():
    """Reading and multiplying overlap within a part, parts don't; what takes most of the time binds."""
    assert TARGET.forward().binds(READS) == WEIGHTS
    assert TARGET.forward(1, 1, 1000).binds(READS) == KV
    assert TARGET.forward().binds(MULTIPLIES) == FLOPS
    assert TARGET.forward().binds(STARTS) == LAUNCHES
    for machine in (READS, MULTIPLIES, STARTS, Machine(3.0, 5.0, 7.0)):
        for work in (TARGET.forward(2, 3, 9), 2.5 * TARGET.forward() + SMALL.forward()):
            assert close(sum(work.shares(machine).values()), work.seconds(machine))
    both = Machine(1.0, 2.0, 0.0)                       # B 4: layers 480 B and 1920 FLOPs, 960 s: multiplying is longer
    assert close(TARGET.layers(4).parts[0].seconds(both), 4 * 2 * 240 / 2)


def check_products():
    """A measured roof: 1 row at 100 B/s, 4 at 50, 8 at 40; halfway between, the mean time; past it, as the rows."""
    machine = Machine(1e12, 1e12, 0.0, ((1, 100.0), (4, 50.0), (8, 40.0)))
    for rows, seconds in ((1, 0.01), (0.5, 0.01), (4, 0.02), (2.5, 0.015), (6, 0.0225), (8, 0.025), (16, 0.05)):
        assert close(machine.product_seconds(1.0, rows), seconds), rows
    one = Machine(1e12, 1e12, 0.0, ((2, 100.0),))
    assert close(one.product_seconds(1.0, 1), 0.01) and close(one.product_seconds(1.0, 4), 0.02)
    assert close(TARGET.forward(1, 4).seconds(machine), 560 * 0.02)             # weights alone; the rest costs nothing
    assert close(sum(TARGET.forward(2, 3, 9).shares(machine).values()), TARGET.forward(2, 3, 9).seconds(machine))
    assert close((3 * TARGET.head(4)).seconds(machine), 3 * 80 * 0.02)


def check_speculation():
    """Theorem 3.8 where a pass costs the same at any width, and the verification's own cost where it doesn't."""
    plain, spec = cost_model.autoregressive(TARGET), cost_model.speculation(TARGET, SMALL, 3, 0.5)
    assert close(cost_model.speed_up(spec, plain, STARTS), 1.875)               # a draft without launches is free here
    draft = Model(SMALL.config, 2, Launches(once=1.5))  # a tenth of the target's 15 launches
    spec = cost_model.speculation(TARGET, draft, 3, 0.5)
    assert close(cost_model.speed_up(spec, plain, STARTS), 1.875 / (3 * 0.1 + 1))
    free = cost_model.speculation(TARGET, None, 3, 0.5)
    times = TARGET.forward(1, 4).seconds(MULTIPLIES) / TARGET.forward(1, 1).seconds(MULTIPLIES)
    assert close(cost_model.speed_up(free, plain, MULTIPLIES), 1.875 / times) and 1.875 / times < 0.5


def check_limits():
    """α = 1 gives γ + 1 tokens; no drafts, a plain pass; as B grows, what is multiplied binds and drafts only cost."""
    plain = cost_model.autoregressive(TARGET, 2, 7)
    assert close(cost_model.speed_up(cost_model.speculation(TARGET, None, 4, 1.0, 2, 7), plain, STARTS), 5)
    for nothing in (cost_model.speculation(TARGET, SMALL, 0, 0.9, 2, 7), cost_model.tree(TARGET, 0, 1, 2, 7)):
        assert close(cost_model.speed_up(nothing, plain, H100), 1)
    factors = [cost_model.speed_up(cost_model.speculation(EIGHT, None, 4, 0.8, batch, 1),
                                   cost_model.autoregressive(EIGHT, batch, 1), H100) for batch in (1, 64, 512, 10**6)]
    assert 3.3 < factors[0] < 3.3616 and factors == sorted(factors, reverse=True)
    assert abs(factors[3] - 3.3616 / 5) < 0.005         # as many tokens, of five times the multiplications
    assert cost_model.autoregressive(EIGHT, 10**6, 512).work.binds(H100) == KV       # S does not shrink with B
    assert cost_model.autoregressive(EIGHT, 10**6, 1).work.binds(H100) == FLOPS
    assert cost_model.autoregressive(EIGHT, 1, 512).work.binds(H100) == WEIGHTS


def check_exit():
    """One text reads the layers that it runs; a batch as deep as its most demanding text; nobody leaves: plain."""
    machine, (B, S) = READS, (1, 3)
    stay = cost_model.early_exit(TARGET, [0, 1.0], [], B, S)
    assert close(stay.seconds(machine), TARGET.forward(B, 1, S).seconds(machine))
    # All leave after layer 1: one layer's 240 B and its 5 tokens' keys and values (8 B each), then layer 2's two
    # matrices for keys and values, 4 · 2 · 2 numbers; the check after layer 1 is one more head (80 + 40 B).
    leave = cost_model.early_exit(TARGET, [1.0, 0], [1], B, S)
    assert close(leave.seconds(machine), 240 + 5 * 8 + 2 * 16 + 120 + 120)
    # Half leave: two texts go on with chance 3/4, and with chance 3/4 someone needs the two matrices.
    half = cost_model.early_exit(TARGET, [0.5, 0.5], [], 2, S)
    heads = 80 + 2 * 2 * 20
    assert close(half.seconds(machine), 240 + 2 * 40 + 0.75 * 240 + 40 + 0.75 * 32 + heads)
    shares = [0.0] * 32
    shares[15], shares[31] = 0.8, 0.2
    gains = [cost_model.speed_up(cost_model.early_exit(EIGHT, shares, [], batch, 64),
                                 cost_model.autoregressive(EIGHT, batch, 64), H100) for batch in (1, 4, 16, 64)]
    assert gains[0] > 1.5 and gains == sorted(gains, reverse=True) and gains[3] < 1.05


def check_self_speculation():
    """γ E / L + 1 passes' worth of the layers, and γ + 1 vocabulary products."""
    spec = cost_model.self_speculation(TARGET, 1, 2, 0.5)
    layer = 240 + 2 * 8                                 # no context: a new token's keys and values, written and read
    whole = 2 * (layer + 120) + (layer + 240 + 3 * 2 * 8) + (80 + 3 * 40)
    assert close(spec.seconds(READS), whole) and spec.tokens == 1.75
    assert close(spec.seconds(STARTS), 2 * (5 + 3 + 2) + 5 + 5 + 2)


def check_lookahead():
    """W 2, N 3, G 2: 8 tokens; logits for the last token, the window's 2 and the guesses' 4."""
    ahead = cost_model.lookahead(TARGET, 2, 3, 2, 0.5, 1.0)
    assert close(ahead.seconds(MULTIPLIES), 8 * 480 + 7 * 80 + 4 * 2 * 4 * 36)
    assert close(ahead.tokens, 3 - (0.5**2 + 0.75**2))
    assert close(cost_model.lookahead(TARGET, 2, 3, 2, 0.5, 2.0).tokens, (1 + ahead.tokens) / 2)


def check_break_even():
    """At the α found a round gives what it costs, more above it and less below; None where nothing pays."""
    for batch in (1, 8, 64):
        alpha = cost_model.break_even(EIGHT, ONE, 3, H100, batch, 1024)
        for step, sign in ((-1e-6, -1), (1e-6, 1)):
            spec = cost_model.speculation(EIGHT, ONE, 3, alpha + step, batch, 1024)
            gain = cost_model.speed_up(spec, cost_model.autoregressive(EIGHT, batch, 1024), H100) - 1
            assert gain * sign > 0 and abs(gain) < 1e-5
    assert cost_model.break_even(ONE, ONE, 3, H100) is None


CHECKS = {check.__name__: check for check in (
    check_pass, check_binds, check_products, check_speculation, check_limits, check_exit, check_self_speculation,
    check_lookahead, check_break_even)}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_check_holds(check):
    """Guards the formulas; see each check."""
    check()


@pytest.mark.parametrize("mutant", mutants.COST_MODEL, ids=str)
def test_mutant_is_rejected(mutant, monkeypatch):
    """Guards a check that a wrong version passes."""
    mutant.apply(monkeypatch)
    with pytest.raises((AssertionError, TypeError)):
        CHECKS[mutant.check]()


def test_drafter_on_ceilings_of_its_own():
    """Guards a draft that is charged to the target's machine where it runs on another (a CPU's lean pass)."""
    spec = cost_model.speculation(TARGET, Model(SMALL.config, 2, Launches(once=10)), 2, 1.0)
    assert close(spec.seconds(STARTS), 15 + 20)
    assert close(spec.seconds(STARTS, Machine(1e12, 1e12, 0.1)), 15 + 2)


@pytest.mark.parametrize(("call", "says"), [
    (lambda: Machine(0.0, 1.0, 0.0), "rates above 0"),
    (lambda: Machine(1.0, float("nan"), 0.0), "rates above 0"),
    (lambda: Machine(1.0, 1.0, -1e-9), "0 seconds or more"),
    (lambda: Machine(1.0, 1.0, 0.0, ((4, 1.0), (1, 1.0))), "by rows, from 1"),
    (lambda: Machine(1.0, 1.0, 0.0, ((1, 0.0),)), "rates above 0"),
    (lambda: TARGET.forward(0), "batch must be a whole number of at least 1"),
    (lambda: TARGET.forward(1, 0), "width must be a whole number"),
    (lambda: TARGET.forward(1, 1, -1), "context is a number of tokens"),
    (lambda: TARGET.forward(1, 1, float("nan")), "context is a number of tokens"),
    (lambda: TARGET.layers(1, 1, 0, 3), "the model has 2 layers"),
    (lambda: cost_model.speculation(TARGET, None, -1, 0.5), "gamma"),
    (lambda: cost_model.speculation(TARGET, None, 1, 1.5), "acceptance rate"),
    (lambda: cost_model.self_speculation(TARGET, 2, 1, 0.5), "exit_layer must be a whole number from 1 to 1"),
    (lambda: cost_model.tree(TARGET, 3, 5), "from 1 to 4 tokens"),
    (lambda: cost_model.lookahead(TARGET, 2, 3, 2, 0.5, 0.5), "f is 1 or more"),
    (lambda: cost_model.early_exit(TARGET, [1.0], []), "needs 2 shares"),
    (lambda: cost_model.early_exit(TARGET, [0.5, 0.6], []), "sum to 1"),
    (lambda: cost_model.early_exit(TARGET, [0.5, 0.5], [2]), "layers 1 to 1"),
])
def test_bad_input(call, says):
    """Guards a speed-up worked out of nonsense."""
    assert_clear_error(call, ValueError, says)
