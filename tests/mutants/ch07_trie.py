"""Wrong answers to 07.5: a trie that drafts."""

import torch

from mutants import Mutant


class Right:
    """Nodes [how often, seen last, children]; the steps that mutants change are methods of their own."""

    def __init__(self, longest):
        self.longest, self.root, self.time = longest, {}, 0

    def starts(self, tokens):
        return range(len(tokens))

    def see(self, node, last):
        node[0] += 1
        node[1] = self.time

    def insert(self, tokens):
        for start in self.starts(tokens):
            self.time += 1
            children, gram = self.root, tokens[start : start + self.longest]
            for n, token in enumerate(gram, start=1):
                node = children.setdefault(token, [0, 0, {}])
                self.see(node, n == len(gram))
                children = node[2]

    def walk(self, tokens):
        """The children after these tokens; None where they are not there."""
        children = self.root
        for token in tokens:
            if token not in children:
                return None
            children = children[token][2]
        return children

    def sizes(self, most):
        return range(most, 0, -1)

    def rank(self, token, node):
        return node[:2]

    def retrieve(self, text, match, reach):
        for n in self.sizes(min(match, len(text))):
            children = self.walk(text[-n:])
            if children:
                return self.down(children, reach)
        return []

    def down(self, children, reach):
        found = []
        while children and len(found) < reach:
            token = max(children, key=lambda token: self.rank(token, children[token]))
            found.append(token)
            children = children[token][2]
        return found


class FromTheFirst(Right):
    def starts(self, tokens):
        return range(min(len(tokens), 1))


class WholeAlone(Right):
    def starts(self, tokens):
        return range(len(tokens) - self.longest + 1)


class CountsTheEnds(Right):
    def see(self, node, last):
        node[0] += last
        node[1] = self.time


class SeenOrNot(Right):
    def see(self, node, last):
        node[:2] = [1, self.time]


class Latest(Right):
    def rank(self, token, node):
        return node[1]


class FirstSeen(Right):
    def rank(self, token, node):
        return 0


class Rarest(Right):
    def rank(self, token, node):
        return -node[0]


class FirstOfEquals(Right):
    def rank(self, token, node):
        return node[0]


class SmallestOfEquals(Right):
    def rank(self, token, node):
        return node[0], -token


class LargestOfEquals(Right):
    def rank(self, token, node):
        return node[0], token


class TimeOfTheFirst(Right):
    def see(self, node, last):
        node[0] += 1
        node[1] = node[1] or self.time


class AcrossTexts(Right):
    """Keeps all texts as one and builds anew."""

    def __init__(self, longest):
        super().__init__(longest)
        self.all = []

    def insert(self, tokens):
        self.all += tokens
        self.root, self.time = {}, 0
        super().insert(self.all)


class OneLonger(Right):
    def __init__(self, longest):
        super().__init__(longest + 1)


class OneShorter(Right):
    def __init__(self, longest):
        super().__init__(longest - 1)


class ShortestEnd(Right):
    def sizes(self, most):
        return range(1, most + 1)


class LastTokenAlone(Right):
    def sizes(self, most):
        return range(min(most, 1), 0, -1)


class NoShorterEnd(Right):
    def sizes(self, most):
        return [most] if most else []


class EveryLongest(Right):
    def starts(self, tokens):
        return range(0, len(tokens), self.longest)


class PlantsNodes(Right):
    def walk(self, tokens):
        children = self.root
        for token in tokens:
            children = children.setdefault(token, [0, 0, {}])[2]
        return children


class LooksUpAgain(Right):
    def retrieve(self, text, match, reach):
        found = []
        while len(found) < reach and (following := super().retrieve([*text, *found], match, 1)):
            found += following
        return found


class LastTokenFirst(Right):
    def retrieve(self, text, match, reach):
        for n in range(min(match, len(text)), 0, -1):
            children = self.walk(text[-n:])
            if children:
                return [*text[-n:], *self.down(children, reach)][:reach]
        return []


class NothingAfterIt(Right):
    def retrieve(self, text, match, reach):
        for n in range(min(match, len(text)), 0, -1):
            children = self.walk(text[-n:])
            if children is not None:
                return self.down(children, reach)
        return []


class PassesOver(Right):
    def walk(self, tokens):
        children = self.root
        for token in tokens:
            if token in children:
                children = children[token][2]
        return children


class WithTheMatch(Right):
    def retrieve(self, text, match, reach):
        for n in range(min(match, len(text)), 0, -1):
            children = self.walk(text[-n:])
            if children:
                return [*text[-n:], *self.down(children, match + reach - n)]
        return []


class OneToken(Right):
    def down(self, children, reach):
        return super().down(children, 1)


class NoReach(Right):
    def down(self, children, reach):
        return super().down(children, 10**6)


class AlwaysSomething(Right):
    def retrieve(self, text, match, reach):
        return super().retrieve(text, match, reach) or self.down(self.root, 1)


class NoneForNone(Right):
    def retrieve(self, text, match, reach):
        return super().retrieve(text, match, reach) or None


class Tensors(Right):
    def retrieve(self, text, match, reach):
        return torch.tensor(super().retrieve(text, match, reach))


class OfTensors(Right):
    def retrieve(self, text, match, reach):
        return [torch.tensor(token) for token in super().retrieve(text, match, reach)]


class Tuples(Right):
    def retrieve(self, text, match, reach):
        return tuple(super().retrieve(text, match, reach))


class Shared(Right):
    nodes = {}

    def __init__(self, longest):
        self.longest, self.root, self.time = longest, Shared.nodes, 0


class CountsLookups(Right):
    def walk(self, tokens):
        children = self.root
        for token in tokens:
            children = children.setdefault(token, [0, 0, {}])[2]
        return children

    def retrieve(self, text, match, reach):
        found = super().retrieve(text, match, reach)
        self.insert(text[-1:] + found)
        return found


class LastTextAlone(Right):
    def insert(self, tokens):
        self.root, self.time = {}, 0
        super().insert(tokens)


class PopsTheText(Right):
    def retrieve(self, text, match, reach):
        found = super().retrieve(text, match, reach)
        text.clear()
        return found


class NoRetrieve:
    def __init__(self, longest):
        self.root = {}

    def insert(self, tokens):
        self.root[tokens[0]] = tokens


MUTANTS = {
    "07.5": [
        Mutant("from the first", FromTheFirst, "one begins at every token"),
        Mutant("whole n-grams alone", WholeAlone, "near its end a text's n-grams are shorter"),
        Mutant("counts the ends", CountsTheEnds, "every node on the way is seen, too"),
        Mutant("seen or not", SeenOrNot, "count how often, and take that first"),
        Mutant("latest", Latest, "you take what was seen last; count"),
        Mutant("first seen", FirstSeen, "you take what was seen first; first of all"),
        Mutant("rarest", Rarest, "you take what was seen most seldom"),
        Mutant("first of equals", FirstOfEquals, "yours was seen first"),
        Mutant("smallest of equals", SmallestOfEquals, "not the smaller one"),
        Mutant("largest of equals", LargestOfEquals, "not the larger one"),
        Mutant("time of the first", TimeOfTheFirst, "the time of the last time, not of the first"),
        Mutant("across texts", AcrossTexts, "no n-gram reaches from one text into the next"),
        Mutant("one longer", OneLonger, "yours have one more"),
        Mutant("one shorter", OneShorter, "yours have one less"),
        Mutant("shortest end", ShortestEnd, "begin with the last `match` tokens"),
        Mutant("last token alone", LastTokenAlone, "or look that up alone"),
        Mutant("no shorter end", NoShorterEnd, "try one less, down to one"),
        Mutant("nothing after it", NothingAfterIt, "has nothing to say; try a shorter one"),
        Mutant("passes over", PassesOver, "yours passes over it"),
        Mutant("with the match", WithTheMatch, "yours begins with the match"),
        Mutant("every longest-th", EveryLongest, "yours begin `longest` tokens apart"),
        Mutant("plants nodes", PlantsNodes, "yours leaves nodes for what was asked"),
        Mutant("looks up again", LooksUpAgain, "yours looks the end up again"),
        Mutant("match counted in", LastTokenFirst, "the matched tokens stand in the text already"),
        Mutant("one token", OneToken, "one token only; go on from it"),
        Mutant("no reach", NoReach, "at most `reach` tokens"),
        Mutant("always something", AlwaysSomething, "where nothing matches there is no draft"),
        Mutant("None for none", NoneForNone, "your function returns None"),
        Mutant("a tensor for a list", Tensors, "it should return a list"),
        Mutant("tensors for ints", OfTensors, "drafts are plain ints"),
        Mutant("a tuple for a list", Tuples, "return a list; yours is a tuple"),
        Mutant("shared", Shared, "two tries share what they learnt"),
        Mutant("counts look-ups", CountsLookups, "retrieve only reads"),
        Mutant("last text alone", LastTextAlone, "yours forgets the texts before"),
        Mutant("clears the text", PopsTheText, "you change the list you are given"),
        Mutant("no retrieve", NoRetrieve, "your class has no method retrieve(text, match, reach)"),
    ],
}
