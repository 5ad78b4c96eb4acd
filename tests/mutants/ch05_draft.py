"""Wrong answers to 05.2: the rule for a whole draft."""

import torch

from minilm.sampling import draw
from mutants import Mutant

# --- 05.2: a whole draft ---


def from_residual(p, q, u):
    return draw(torch.relu(p - q), u)


def sample(p, q, drafted, uniforms, recovered=from_residual, accept=lambda u, p, q: u < p / q):
    for i, x in enumerate(drafted):
        if not accept(uniforms[i], float(p[i, x]), float(q[i, x])):
            return drafted[:i] + [recovered(p[i], q[i], uniforms[-1])]
    return drafted + [draw(p[-1], uniforms[-1])]


def no_bonus(p, q, drafted, uniforms):
    out = sample(p, q, drafted, uniforms)
    return out[:-1] if len(out) > len(drafted) and out[:-1] == drafted else out


def bonus_from_the_wrong_row(p, q, drafted, uniforms):
    out = sample(p, q, drafted, uniforms)
    return [*drafted, draw(p[len(drafted) - 1], uniforms[-1])] if len(out) > len(drafted) else out


def greedy_bonus(p, q, drafted, uniforms):
    out = sample(p, q, drafted, uniforms)
    return [*drafted, int(p[-1].argmax())] if len(out) > len(drafted) else out


def bonus_after_all(p, q, drafted, uniforms):
    out = sample(p, q, drafted, uniforms)
    return out if len(out) > len(drafted) else [*out, draw(p[-1], uniforms[-1])]


def recovered_from_p(p, q, drafted, uniforms):
    return sample(p, q, drafted, uniforms, lambda p, q, u: draw(p, u))


def recovered_by_softmax(p, q, drafted, uniforms):
    return sample(p, q, drafted, uniforms, lambda p, q, u: draw(torch.softmax(torch.relu(p - q), -1), u))


def recovered_upside_down(p, q, drafted, uniforms):
    return sample(p, q, drafted, uniforms, lambda p, q, u: draw(torch.relu(q - p), u))


def recovered_without_the_draft(p, q, drafted, uniforms):
    for i, x in enumerate(drafted):
        if uniforms[i] >= p[i, x] / q[i, x]:
            rest = p[i].clone()
            rest[x] = 0
            return drafted[:i] + [draw(rest, uniforms[-1])]
    return drafted + [draw(p[-1], uniforms[-1])]


def recovered_greedily(p, q, drafted, uniforms):
    return sample(p, q, drafted, uniforms, lambda p, q, u: int((p - q).argmax()))


def one_uniform_for_all(p, q, drafted, uniforms):
    return sample(p, q, drafted, [uniforms[0]] * len(drafted) + [uniforms[-1]])


def rejecting_uniform_again(p, q, drafted, uniforms):
    for i, x in enumerate(drafted):
        if uniforms[i] >= p[i, x] / q[i, x]:
            return drafted[:i] + [from_residual(p[i], q[i], uniforms[i])]
    return drafted + [draw(p[-1], uniforms[-1])]


def next_uniform(p, q, drafted, uniforms):
    for i, x in enumerate(drafted):
        if uniforms[i] >= p[i, x] / q[i, x]:
            return drafted[:i] + [from_residual(p[i], q[i], uniforms[i + 1])]
    return drafted + [draw(p[-1], uniforms[-1])]


def row_after(p, q, drafted, uniforms):
    return sample(torch.cat([p[1:], p[-1:]]), q, drafted, uniforms)


def cumulative(p, q, drafted, uniforms):
    reach = torch.cumprod(torch.stack([min(torch.ones(()).double(), p[i, x] / q[i, x])
                                       for i, x in enumerate(drafted)]), 0)
    accepted = next((i for i, r in enumerate(reach) if uniforms[i] >= r), len(drafted))
    last = p[-1] if accepted == len(drafted) else (p[accepted] - q[accepted]).clamp(min=0)
    return drafted[:accepted] + [draw(last if last.sum() > 0 else p[accepted], uniforms[-1])]


def keeps_the_rejected(p, q, drafted, uniforms):
    out = sample(p, q, drafted, uniforms)
    return out if len(out) > len(drafted) else [*out[:-1], drafted[len(out) - 1], out[-1]]


def goes_on(p, q, drafted, uniforms):
    out = []
    for i, x in enumerate(drafted):
        out.append(x if uniforms[i] < p[i, x] / q[i, x] else from_residual(p[i], q[i], uniforms[-1]))
    return out + [draw(p[-1], uniforms[-1])]


def drops_and_goes_on(p, q, drafted, uniforms):
    out = [x for i, x in enumerate(drafted) if uniforms[i] < p[i, x] / q[i, x]]
    return out + [draw(p[-1], uniforms[-1])]


def no_recovered(p, q, drafted, uniforms):
    out = sample(p, q, drafted, uniforms)
    return out if len(out) > len(drafted) else out[:-1]


def accepts_above(p, q, drafted, uniforms):
    return sample(p, q, drafted, uniforms, accept=lambda u, p, q: u > p / q)


def accepts_at_once(p, q, drafted, uniforms):
    return sample(p, q, drafted, uniforms, accept=lambda u, p, q: p >= q)


def zero_passes(p, q, drafted, uniforms):
    return sample(p, q, drafted, uniforms, accept=lambda u, p, q: u <= p / q)


def zero_drawn(p, q, drafted, uniforms):
    def first(weights, u):
        return int((weights.cumsum(0) / weights.sum() < u).sum())
    for i, x in enumerate(drafted):
        if uniforms[i] >= p[i, x] / q[i, x]:
            return drafted[:i] + [first(torch.relu(p[i] - q[i]), uniforms[-1])]
    return drafted + [first(p[-1], uniforms[-1])]


def last_token_alone(p, q, drafted, uniforms):
    return sample(p, q, drafted, uniforms)[-1:]


def softened(p, q, drafted, uniforms):
    """A little of p mixed into the residual, as a guard against NaN."""
    return sample(p, q, drafted, uniforms, lambda p, q, u: draw(torch.relu(p - q) + 0.001, u))


def tempered(p, q, drafted, uniforms):
    return sample(p, q, drafted, uniforms, accept=lambda u, p, q: u < (p / q) ** 0.8)


def tokens_as_tensors(p, q, drafted, uniforms):
    return [torch.tensor(token) for token in sample(p, q, drafted, uniforms)]


def tokens_as_floats(p, q, drafted, uniforms):
    return [float(token) for token in sample(p, q, drafted, uniforms)]


def one_tensor(p, q, drafted, uniforms):
    return torch.tensor(sample(p, q, drafted, uniforms))


MUTANTS = {
    "05.2": [
        Mutant("no bonus", no_bonus, "the bonus token is missing"),
        Mutant("bonus from the wrong row", bonus_from_the_wrong_row, "the bonus token comes from p[n], the last row"),
        Mutant("greedy bonus", greedy_bonus, "yours is its most probable token"),
        Mutant("bonus after a recovered one", bonus_after_all, "a bonus token is for a round in which all"),
        Mutant("recovered from p", recovered_from_p, "the recovered token is drawn from p itself"),
        Mutant("softmax of the residual", recovered_by_softmax, "the residual goes through a softmax"),
        Mutant("max(0, q - p)", recovered_upside_down, "drawn from max(0, q - p)"),
        Mutant("p without the draft", recovered_without_the_draft, "drawn from p without the rejected one"),
        Mutant("recovered greedily", recovered_greedily, "the most probable of the residual"),
        Mutant("one uniform for all", one_uniform_for_all, "the same uniform decides every draft"),
        Mutant("rejecting uniform again", rejecting_uniform_again, "the uniform that rejected the draft also draws"),
        Mutant("next uniform", next_uniform, "drawn with the next draft's uniform"),
        Mutant("row after", row_after, "row i of p judges draft i"),
        Mutant("product of acceptances", cumulative, "draft i is judged by its own p/q"),
        Mutant("keeps the rejected", keeps_the_rejected, "a rejected draft goes"),
        Mutant("goes on", goes_on, "after a rejection nothing may follow"),
        Mutant("drops and goes on", drops_and_goes_on, "you drop the rejected draft and keep those after it"),
        Mutant("no recovered", no_recovered, "the recovered token is missing"),
        Mutant("accepts above", accepts_above, "accept where the uniform lies *below* p/q"),
        Mutant("no chance", accepts_at_once, "no chance is left"),
        Mutant("u <= p/q", zero_passes, "u = 0 <= 0 / q accepts"),
        Mutant("u = 0 drawn", zero_drawn, "u = 0 draws a token of probability 0"),
        Mutant("last alone", last_token_alone, "return the accepted drafts before it, too"),
        Mutant("softened residual", softened, "u = 0 draws a token of probability 0"),
        Mutant("tempered acceptance", tempered, "over all drafts and all chances"),
        Mutant("tensors for ints", tokens_as_tensors, "tokens are plain ints"),
        Mutant("floats for ints", tokens_as_floats, "tokens are plain ints"),
        Mutant("a tensor for a list", one_tensor, "it should return a list"),
    ],
}
