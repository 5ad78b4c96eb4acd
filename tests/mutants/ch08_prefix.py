"""Wrong answers to 08.5: full blocks that later texts find again."""

from mutants import Mutant


class Right:
    """A right answer, in parts that the wrong ones change."""

    def __init__(self, size, digest):
        self.size, self.digest, self.blocks = size, digest, {}

    def forget(self, block):
        self.blocks = {key: known for key, known in self.blocks.items() if known != block}

    def keys(self, tokens):
        keys, parent = [], None
        for i in range(len(tokens) // self.size):
            parent = self.digest(parent, tokens[i * self.size : (i + 1) * self.size])
            keys.append(parent)
        return keys

    def remember(self, blocks, tokens, accepted):
        for i, key in enumerate(self.keys(tokens[:accepted])):
            if key not in self.blocks:
                self.blocks[key] = blocks[i]

    def find(self, tokens):
        found = []
        for key in self.keys(tokens)[: (len(tokens) - 1) // self.size]:
            if key not in self.blocks:
                return found
            found.append(self.blocks[key])
        return found


class NoParent(Right):
    def keys(self, tokens):
        return [self.digest(None, tokens[i : i + self.size]) for i in range(0, len(tokens) - self.size + 1, self.size)]


class FirstParent(Right):
    def keys(self, tokens):
        keys = []
        for i in range(len(tokens) // self.size):
            keys.append(self.digest(keys[0] if keys else None, tokens[i * self.size : (i + 1) * self.size]))
        return keys


class PartialToo(Right):
    def keys(self, tokens):
        keys = []
        for start in range(0, len(tokens), self.size):
            keys.append(self.digest(keys[-1] if keys else None, tokens[start : start + self.size]))
        return keys


class LastFullMissing(Right):
    def keys(self, tokens):
        return super().keys(tokens[:-1])


class FromTheStart(Right):
    def keys(self, tokens):
        return [self.digest(None, tokens[: (i + 1) * self.size]) for i in range(len(tokens) // self.size)]


class ParentAndAll(Right):
    def keys(self, tokens):
        keys = []
        for i in range(len(tokens) // self.size):
            keys.append(self.digest(keys[-1] if keys else None, tokens[: (i + 1) * self.size]))
        return keys


class Windows(Right):
    def keys(self, tokens):
        keys = []
        for i in range(len(tokens) - self.size + 1):
            keys.append(self.digest(keys[-1] if keys else None, tokens[i : i + self.size]))
        return keys


class ParentZero(Right):
    def keys(self, tokens):
        keys = [0]
        for i in range(len(tokens) // self.size):
            keys.append(self.digest(keys[-1], tokens[i * self.size : (i + 1) * self.size]))
        return keys[1:]


class LastKey(Right):
    def keys(self, tokens):
        return super().keys(tokens)[-1:]


class HashesDrafts(Right):
    def remember(self, blocks, tokens, accepted):
        super().remember(blocks, tokens, len(tokens))


class RoundsUp(Right):
    def remember(self, blocks, tokens, accepted):
        super().remember(blocks, tokens, (accepted + self.size - 1) // self.size * self.size)


class OneShort(Right):
    def remember(self, blocks, tokens, accepted):
        super().remember(blocks, tokens, max(0, accepted - 1))


class TheLater(Right):
    def remember(self, blocks, tokens, accepted):
        self.blocks.update(zip(self.keys(tokens[:accepted]), blocks, strict=False))


class NothingLeft(Right):
    def find(self, tokens):
        return super().find([*tokens, 0])


class PastAGap(Right):
    def find(self, tokens):
        return [self.blocks[key] for key in self.keys(tokens[:-1]) if key in self.blocks]


class LeavesABlock(Right):
    def find(self, tokens):
        found = []
        for key in self.keys(tokens[: -self.size]):
            if key not in self.blocks:
                break
            found.append(self.blocks[key])
        return found


class LeavesTheLast(Right):
    def find(self, tokens):
        found = []
        for key in self.keys(tokens):
            if key not in self.blocks:
                break
            found.append(self.blocks[key])
        return found[:-1]


class OtherWayRound(Right):
    def remember(self, blocks, tokens, accepted):
        for block, key in zip(blocks, self.keys(tokens[:accepted]), strict=False):
            self.blocks.setdefault(block, key)


class GivesKeys(Right):
    def find(self, tokens):
        return self.keys(tokens)[: len(super().find(tokens))]


class GivesANumber(Right):
    def find(self, tokens):
        return len(super().find(tokens))


class LastAlone(Right):
    def find(self, tokens):
        return super().find(tokens)[-1:]


class FirstAlone(Right):
    def find(self, tokens):
        return super().find(tokens)[:1]


class Unknown(Right):
    def find(self, tokens):
        return [self.blocks.get(key) for key in self.keys(tokens[:-1])]


class Learns(Right):
    """Puts what it is asked for into the memory: setdefault where a look would do."""

    def find(self, tokens):
        found = super().find(tokens)
        for number, key in enumerate(self.keys(tokens[:-1])):
            self.blocks.setdefault(key, number)
        return found


class OwnDigest(Right):
    def keys(self, tokens):
        keys = [""]
        for i in range(len(tokens) // self.size):
            block = " ".join(map(str, tokens[i * self.size : (i + 1) * self.size]))
            keys.append(f"{keys[-1]}[{block}]")
        return keys[1:] if isinstance(self.digest(None, [1]), str) else [self.digest(None, [9])]


MUTANTS = {
    "08.5": [
        Mutant("no parent", NoParent, "yours forgets it"),
        Mutant("the first is the parent", FirstParent, "yours is always the first one"),
        Mutant("partial blocks too", PartialToo, "only *full* blocks have a key"),
        Mutant("the last full one missing", LastFullMissing, "the last block is full, too"),
        Mutant("from the start", FromTheStart, "yours digests the text from its start"),
        Mutant("parent and all tokens", ParentAndAll, "the block's *own* tokens"),
        Mutant("windows", Windows, "go on by `size` tokens"),
        Mutant("parent 0", ParentZero, "the first block has no parent"),
        Mutant("the last key", LastKey, "one key for each full block"),
        Mutant("hashes drafts", HashesDrafts, "a draft may still be rejected"),
        Mutant("rounds up", RoundsUp, "it must be full of accepted tokens"),
        Mutant("one short", OneShort, "the block that they just fill is final"),
        Mutant("the later of two", TheLater, "keep the first, to which others may point"),
        Mutant("nothing left to compute", NothingLeft, "one token at least must stay"),
        Mutant("past a gap", PastAGap, "stop at the first block that is not known"),
        Mutant("leaves a block out", LeavesABlock, "yours leaves out more"),
        Mutant("leaves the last one out", LeavesTheLast, "yours always leaves one out"),
        Mutant("the other way round", OtherWayRound, "yours is the other way round"),
        Mutant("gives keys", GivesKeys, "not their keys"),
        Mutant("gives a number", GivesANumber, "not their number"),
        Mutant("the last alone", LastAlone, "yours is the last one alone"),
        Mutant("the first alone", FirstAlone, "yours is the first one alone"),
        Mutant("unknown ones", Unknown, "yours gives what is not there"),
        Mutant("learns from questions", Learns, "find remembers something"),
        Mutant("a digest of its own", OwnDigest, "another digest"),
    ],
}
