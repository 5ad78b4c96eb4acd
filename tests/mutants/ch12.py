"""Wrong answers to 12.1 to 12.4: a pass's time, drafts in a batch, rows that leave it, a budget of drafts."""
import torch

from mutants import Mutant

# --- 12.1 ------------------------------------------------------------------------------------------------------------


def step(formula, pick=max):
    """formula(weights, kv, flops, launches, batch, tokens), the parts as they should be."""
    def answer(batch, tokens, context, model, machine):
        parts = {"weights": model["parameters"] * model["bytes"] / machine["bandwidth"],
                 "KV": batch * context * model["kv"] * model["bytes"] / machine["bandwidth"],
                 "FLOPs": 2 * model["parameters"] * batch * tokens / machine["rate"],
                 "launches": model["launches"] * machine["launch"]}
        return formula(*parts.values(), batch, tokens), pick(parts, key=parts.get)
    return answer


def in_numbers(batch, tokens, context, model, machine):
    """Numbers over bytes a second."""
    read = (model["parameters"] + batch * context * model["kv"]) / machine["bandwidth"]
    kv = batch * context * model["kv"] / machine["bandwidth"]
    flops = 2 * model["parameters"] * batch * tokens / machine["rate"]
    return max(read - kv, flops) + kv + model["launches"] * machine["launch"], "weights"


def context_and_tokens(batch, tokens, context, model, machine):
    return RIGHT_1(batch, tokens, context + tokens, model, machine)


def only_seconds(batch, tokens, context, model, machine):
    return 1.0


def of_tensors(*case):
    seconds, name = RIGHT_1(*case)
    return torch.tensor(seconds), name


def small_letters(*case):
    seconds, name = RIGHT_1(*case)
    return seconds, name.lower()


RIGHT_1 = step(lambda w, k, f, l, batch, tokens: max(w, f) + k + l)

# --- 12.2 ------------------------------------------------------------------------------------------------------------


def drafts(round_seconds, tokens=lambda a, g, b: sum(a**i for i in range(g + 1))):
    def answer(alpha, gamma, batch, target, draft):
        return tokens(alpha, gamma, batch) / round_seconds(gamma, batch, target, draft) * target(batch, 1)
    return answer


def right_round(gamma, batch, target, draft):
    return gamma * draft(batch, 1) + target(batch, gamma + 1)


def leviathan(alpha, gamma, batch, target, draft):
    """Theorem 3.8: c and a closed form, for a pass that costs the same whatever it reads."""
    c = draft(batch, 1) / target(batch, 1)
    return (1 - alpha ** (gamma + 1)) / (1 - alpha) / (gamma * c + 1) if alpha < 1 else (gamma + 1) / (gamma * c + 1)


def closed_form(alpha, gamma, batch, target, draft):
    return (1 - alpha ** (gamma + 1)) / (1 - alpha) * target(batch, 1) / right_round(gamma, batch, target, draft)


# --- 12.3 ------------------------------------------------------------------------------------------------------------


class Descent:
    """A right answer, in parts that the wrong ones change."""

    def __call__(self, x, layers, leaves):
        self.states, self.depth = torch.empty_like(x), torch.zeros(len(x), dtype=torch.int64)
        self.x, self.rows, self.last = x, torch.arange(len(x)), len(layers)
        for self.number, layer in enumerate(layers, 1):
            self.x = layer(self.x, self.rows)
            self.part(self.who(leaves))
            if self.done():
                break
        return self.states, self.depth

    def who(self, leaves):
        if self.number == self.last:
            return torch.ones(len(self.rows), dtype=torch.bool)
        return leaves(self.number, self.x, self.rows)

    def done(self):
        return len(self.rows) == 0

    def part(self, going):
        self.write(going)
        self.x, self.rows = self.x[~going], self.stay(going)

    def write(self, going):
        self.states[self.rows[going]] = self.x[going]
        self.depth[self.rows[going]] = self.number

    def stay(self, going):
        return self.rows[~going]


class Renumbers(Descent):
    def stay(self, going):
        return torch.arange(int((~going).sum()))


class WritesByPlace(Descent):
    def write(self, going):
        self.states[going.nonzero()[:, 0]] = self.x[going]
        self.depth[going.nonzero()[:, 0]] = self.number


class CountsFromZero(Descent):
    def write(self, going):
        super().write(going)
        self.depth[self.rows[going]] = self.number - 1


class NobodyLeaves(Descent):
    def who(self, leaves):
        return torch.full((len(self.rows),), self.number == self.last)


class AllTogether(Descent):
    def who(self, leaves):
        going = super().who(leaves)
        return torch.full_like(going, bool(going.any()))


class OnlyAll(Descent):
    def who(self, leaves):
        going = super().who(leaves)
        return torch.full_like(going, bool(going.all()))


class AsksInVain(Descent):
    def who(self, leaves):
        return super().who(leaves) & (self.number == self.last)


class PlacesToLeaves(Descent):
    def who(self, leaves):
        return super().who(lambda number, x, rows: leaves(number, x, torch.arange(len(rows))))


class PlacesToLayers(Descent):
    def __call__(self, x, layers, leaves):
        return super().__call__(x, [lambda x, rows, f=f: f(x, torch.arange(len(rows))) for f in layers], leaves)


class PlacesToBoth(PlacesToLayers, PlacesToLeaves):
    pass


class TheOthers(Descent):
    def who(self, leaves):
        return super().who(leaves) if self.number == self.last else ~super().who(leaves)


class GoesOn(Descent):
    def done(self):
        return False


class AsksAtTheEnd(Descent):
    def who(self, leaves):
        if self.number == self.last:
            leaves(self.number, self.x, self.rows)
        return super().who(leaves)


def masks(x, layers, leaves):
    """Right, and no faster: every layer runs for all rows."""
    every, there = torch.arange(len(x)), torch.ones(len(x), dtype=torch.bool)
    states, depth = x, torch.full((len(x),), len(layers))
    for number, layer in enumerate(layers, 1):
        x = layer(x, every)
        states = torch.where(there[:, None], x, states)
        if number < len(layers):
            going = leaves(number, x, every) & there
            depth[going], there = number, there & ~going
    return states, depth


def not_kept(x, layers, leaves):
    """The depths are right, the states are those of the whole model."""
    depth = masks(x, layers, leaves)[1]
    for layer in layers:
        x = layer(x, torch.arange(len(x)))
    return x, depth


def one_thing(x, layers, leaves):
    return Descent()(x, layers, leaves)[0]


def depths_as_list(x, layers, leaves):
    states, depth = Descent()(x, layers, leaves)
    return states, depth.tolist()


def depths_as_float(x, layers, leaves):
    states, depth = Descent()(x, layers, leaves)
    return states, depth.float()


def fresh(kind):
    return lambda *given: kind()(*given)


# --- 12.4 ------------------------------------------------------------------------------------------------------------


def budget(worth, value, score=None):
    """worth(confidences) of one text; value(n, sum of the best n, texts, seconds): what the best n is best in."""
    def answer(confidence, seconds):
        found = [(-s, text) for text, row in enumerate(confidence) for s in worth(row)]
        found.sort()
        best, most = 0, None
        for n in range(min(len(found), len(seconds) - 1) + 1):
            made = value(n, -sum(s for s, _ in found[:n]), len(confidence), seconds)
            if most is None or made > most:
                best, most = n, made
        counts = [0] * len(confidence)
        for _, text in found[:best]:
            counts[text] += 1
        return counts
    return answer


def survival(row):
    return [float(torch.tensor(row[: i + 1], dtype=torch.float64).prod()) for i in range(len(row))]


def goodput(n, reached, texts, seconds):
    return (texts + reached) / seconds[n]


def all_alike(confidence, seconds):
    best, most = [0] * len(confidence), len(confidence) / seconds[0]
    for g in range(1, max(map(len, confidence), default=0) + 1):
        counts = [min(g, len(row)) for row in confidence]
        if sum(counts) < len(seconds):
            made = len(confidence) + sum(sum(survival(row)[:g]) for row in confidence)
            if made / seconds[sum(counts)] > most:
                best, most = counts, made / seconds[sum(counts)]
    return best


def each_alone(confidence, seconds):
    return [RIGHT_4([row], seconds)[0] for row in confidence]


def greedy(confidence, seconds):
    """One more draft as long as it pays at once."""
    ranked = sorted(((s, -text) for text, row in enumerate(confidence) for s in survival(row)), reverse=True)
    counts, made = [0] * len(confidence), float(len(confidence))
    for n, (s, text) in enumerate(ranked[: len(seconds) - 1]):
        if (made + s) / seconds[n + 1] <= made / seconds[n]:
            break
        made += s
        counts[-text] += 1
    return counts


def fixed_bar(confidence, seconds):
    return [sum(s > 0.5 for s in survival(row)) for row in confidence]


def whole_number(confidence, seconds):
    return sum(RIGHT_4(confidence, seconds))


RIGHT_4 = budget(survival, goodput)

MUTANTS = {
    "12.1": [
        Mutant("adds everything", step(lambda w, k, f, l, b, t: w + k + f + l), "side by side: the longer of the two"),
        Mutant("one roof over all", step(lambda w, k, f, l, b, t: max(w, k, f, l)), "come on top of the longer one"),
        Mutant("launches hidden", step(lambda w, k, f, l, b, t: max(max(w, f) + k, l)), "launches come on top"),
        Mutant("launches forgotten", step(lambda w, k, f, l, b, t: max(w, f) + k), "launches take time, too"),
        Mutant("weights for each row", step(lambda w, k, f, l, b, t: max(w * b, f) + k + l), "whatever the batch"),
        Mutant("weights for each token", step(lambda w, k, f, l, b, t: max(w * t, f) + k + l), "for all of its tokens"),
        Mutant("one context", step(lambda w, k, f, l, b, t: max(w, f) + k / b + l), "keys and values of its own"),
        Mutant("context for each token", step(lambda w, k, f, l, b, t: max(w, f) + k * t + l),
               "read once for all of its new tokens"),
        Mutant("context + tokens", context_and_tokens, "and not context + tokens"),
        Mutant("no keys and values", step(lambda w, k, f, l, b, t: max(w, f) + l), "read, too, besides the weights"),
        Mutant("numbers, not bytes", in_numbers, "multiply by model['bytes']"),
        Mutant("half the products", step(lambda w, k, f, l, b, t: max(w, f / 2) + k + l), "2 FLOP"),
        Mutant("one row computed", step(lambda w, k, f, l, b, t: max(w, f / b) + k + l), "every row of the batch"),
        Mutant("one token computed", step(lambda w, k, f, l, b, t: max(w, f / t) + k + l), "every new token of a row"),
        Mutant("launches for each row", step(lambda w, k, f, l, b, t: max(w, f) + k + l * b), "not grow with it"),
        Mutant("products forgotten", step(lambda w, k, f, l, b, t: w + k + l), "where it takes longer than reading"),
        Mutant("what takes least", step(lambda w, k, f, l, b, t: max(w, f) + k + l, min), "that takes least"),
        Mutant("small letters", small_letters, 'spelled so; yours is'),
        Mutant("seconds only", only_seconds, "return 2 things: seconds, what takes most"),
        Mutant("a tensor", of_tensors, "plain"),
    ],
    "12.2": [
        Mutant("Leviathan's formula", leviathan, "in a batch that is more than target(batch, 1)"),
        Mutant("verifies γ tokens", drafts(lambda g, b, t, d: g * d(b, 1) + t(b, g)), "γ + 1 tokens"),
        Mutant("verifies one text", drafts(lambda g, b, t, d: g * d(b, 1) + t(1, g + 1)), "one pass of the batch"),
        Mutant("rows of one token", drafts(lambda g, b, t, d: g * d(b, 1) + t(b * (g + 1), 1)),
               "share its keys and values"),
        Mutant("verifies one by one", drafts(lambda g, b, t, d: g * d(b, 1) + (g + 1) * t(b, 1)), "in one pass"),
        Mutant("no bonus", drafts(right_round, lambda a, g, b: sum(a**i for i in range(1, g + 1))), "begin with 1"),
        Mutant("α for each draft", drafts(right_round, lambda a, g, b: 1 + g * a), "α^i, not α for each"),
        Mutant("all accepted", drafts(right_round, lambda a, g, b: g + 1), "not all drafts are accepted"),
        Mutant("waits for the slowest", drafts(right_round, lambda a, g, b: sum(a ** (b * i) for i in range(g + 1))),
               "rows don't wait for each other"),
        Mutant("drafts at once", drafts(lambda g, b, t, d: d(b, g) + t(b, g + 1)), "not one over γ"),
        Mutant("one draft pass", drafts(lambda g, b, t, d: d(b, 1) + t(b, g + 1)), "γ passes of the draft"),
        Mutant("drafts for one row", drafts(lambda g, b, t, d: g * d(1, 1) + t(b, g + 1)), "all rows draft"),
        Mutant("free drafts", drafts(lambda g, b, t, d: t(b, g + 1)), "drafting takes time"),
        Mutant("counts the batch", lambda a, g, b, t, d: b * drafts(right_round)(a, g, b, t, d), "batch cancels out"),
        Mutant("turned over", lambda *case: 1 / drafts(right_round)(*case), "turn it over"),
        Mutant("divides by zero", closed_form, "ZeroDivisionError"),
    ],
    "12.3": [
        Mutant("renumbers", fresh(Renumbers), "keep their numbers in the batch"),
        Mutant("writes by place", fresh(WritesByPlace), "write at rows[going]"),
        Mutant("counts from zero", fresh(CountsFromZero), "depths count layers run, from 1"),
        Mutant("nobody leaves", fresh(NobodyLeaves), "nobody leaves in your loop"),
        Mutant("all together", fresh(AllTogether), "sends all away as soon as one leaves"),
        Mutant("the others leave", fresh(TheOthers), "says who *leaves*"),
        Mutant("masks", masks, "all rows run through every layer"),
        Mutant("states of the whole model", not_kept, "keeps the state with which it left"),
        Mutant("runs for nobody", fresh(GoesOn), "your loop goes on to layer"),
        Mutant("asks at the end", fresh(AsksAtTheEnd), "a vocabulary product for nothing"),
        Mutant("states only", one_thing, "return 2 things: states, depth"),
        Mutant("a layer gets places", fresh(PlacesToLayers), "given to a layer are numbers of the batch"),
        Mutant("leaves gets places", fresh(PlacesToLeaves), "given to leaves are numbers of the batch"),
        Mutant("both get places", fresh(PlacesToBoth), "given to layers and to leaves are numbers of the batch"),
        Mutant("only when all want to", fresh(OnlyAll), "until all who are there want to leave at once"),
        Mutant("asks for nothing", fresh(AsksInVain), "those whom it names leave at once"),
        Mutant("a list of depths", depths_as_list, "depth: your function returns a list"),
        Mutant("depths as float", depths_as_float, "depth: your answer has dtype float32"),
    ],
    "12.4": [
        Mutant("confidence alone", budget(list, goodput), "multiply the confidences along the text"),
        Mutant("smallest so far", budget(lambda row: [min(row[: i + 1]) for i in range(len(row))], goodput),
               "not the smallest confidence"),
        Mutant("forgets the texts' own", budget(survival, lambda n, s, texts, seconds: s / seconds[n]),
               "one token without any draft"),
        Mutant("one own token in all", budget(survival, lambda n, s, texts, seconds: (1 + s) / seconds[n]),
               "one for each of them"),
        Mutant("most tokens", budget(survival, lambda n, s, texts, seconds: s), "what counts is tokens a second"),
        Mutant("fastest pass", budget(survival, lambda n, s, texts, seconds: -seconds[n]), "that is the fastest pass"),
        Mutant("one early", budget(survival, lambda n, s, texts, seconds: (texts + s) / seconds[max(n - 1, 0)]),
               "yours is one early"),
        Mutant("all alike", all_alike, "yours gives all alike"),
        Mutant("each alone", each_alone, "decide for the batch"),
        Mutant("one after another", greedy, "look at every n"),
        Mutant("a fixed bar", fixed_bar, "a fixed bar of 0.5"),
        Mutant("a whole number", whole_number, "your function returns an int"),
    ],
}
