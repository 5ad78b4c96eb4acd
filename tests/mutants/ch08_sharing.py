"""Wrong answers to 08.4: fork, and copy on write."""

from mutants import Mutant


class Right:
    """A right answer, in parts that the wrong ones change."""

    def __init__(self, pool):
        self.pool, self.blocks, self.length = pool, [], 0

    def take(self):
        block = self.pool["free"].pop(0)
        self.pool["references"][block] = 1
        return block

    def fork(self):
        child = type(self)(self.pool)
        child.blocks, child.length = list(self.blocks), self.length
        for block in self.blocks:
            self.pool["references"][block] += 1
        return child

    def must_copy(self, count):
        last, place = divmod(self.length, self.pool["size"])
        return count > 0 and place > 0 and self.pool["references"][self.blocks[last]] > 1

    def copy(self):
        last = self.length // self.pool["size"]
        old, self.blocks[last] = self.blocks[last], self.take()
        self.pool["references"][old] -= 1
        return [(old, self.blocks[last])]

    def grow(self, count):
        while len(self.blocks) * self.pool["size"] < self.length + count:
            self.blocks.append(self.take())

    def append(self, count):
        copies = self.copy() if self.must_copy(count) else []
        self.grow(count)
        self.length += count
        return copies

    def free(self):
        for block in self.blocks:
            self.pool["references"][block] -= 1
            if self.pool["references"][block] == 0:
                self.pool["free"].append(block)
        self.blocks, self.length = [], 0


class NoCopy(Right):
    def must_copy(self, count):
        return False


class CopiesAtTheBoundary(Right):
    def must_copy(self, count):
        return count > 0 and bool(self.blocks) and self.pool["references"][self.blocks[-1]] > 1

    def copy(self):
        old, self.blocks[-1] = self.blocks[-1], self.take()
        self.pool["references"][old] -= 1
        return [(old, self.blocks[-1])]


class CopiesItsOwn(Right):
    def must_copy(self, count):
        return count > 0 and self.length % self.pool["size"] > 0


class CopiesForNothing(Right):
    def must_copy(self, count):
        return super().must_copy(max(count, 1))


class CopiesAll(Right):
    def copy(self):
        copies = []
        for i, old in enumerate(self.blocks):
            if self.pool["references"][old] > 1:
                self.blocks[i] = self.take()
                self.pool["references"][old] -= 1
                copies.append((old, self.blocks[i]))
        return copies


class OldKeepsItsReference(Right):
    def copy(self):
        last = self.length // self.pool["size"]
        old, self.blocks[last] = self.blocks[last], self.take()
        return [(old, self.blocks[last])]


class NewHasNoReference(Right):
    def take(self):
        return self.pool["free"].pop(0)


class BothWays(Right):
    def copy(self):
        return [pair[::-1] for pair in super().copy()]


class TellsNobody(Right):
    def append(self, count):
        super().append(count)
        return []


class ReturnsNothing(Right):
    def append(self, count):
        super().append(count)


class OneNumber(Right):
    def copy(self):
        return [super().copy()[0][1]]


class CopyIsLost(Right):
    def copy(self):
        last = self.length // self.pool["size"]
        new = self.take()
        self.pool["references"][new] = 0
        self.pool["free"].insert(0, new)
        return [(self.blocks[last], new)]


class CopyAtTheEnd(Right):
    """Appends the copy, and leaves the old block where it was."""

    def copy(self):
        last = self.length // self.pool["size"]
        self.blocks.append(self.take())
        return [(self.blocks[last], self.blocks[-1])]


class EagerFork(Right):
    def fork(self):
        child = super().fork()
        if self.length % self.pool["size"]:
            old, child.blocks[-1] = child.blocks[-1], self.take()
            self.pool["references"][old] -= 1
        return child


class SameList(Right):
    def fork(self):
        child = super().fork()
        child.blocks = self.blocks
        return child


class NoReferences(Right):
    def fork(self):
        child = type(self)(self.pool)
        child.blocks, child.length = list(self.blocks), self.length
        return child


class LengthForgotten(Right):
    def fork(self):
        child = super().fork()
        child.length = 0
        return child


class FullBlocksOnly(Right):
    def fork(self):
        child = super().fork()
        if self.length % self.pool["size"]:
            self.pool["references"][child.blocks.pop()] -= 1
        return child


class ForkReturnsNothing(Right):
    def fork(self):
        super().fork()


class FreesShared(Right):
    def free(self):
        for block in self.blocks:
            self.pool["references"][block] -= 1
            self.pool["free"].append(block)


class NeverFrees(Right):
    def free(self):
        for block in self.blocks:
            self.pool["references"][block] -= 1
        self.blocks, self.length = [], 0


class FreeForgetsReferences(Right):
    def free(self):
        for block in self.blocks:
            if self.pool["references"][block] == 1:
                self.pool["free"].append(block)


class FreeKeepsLength(Right):
    def free(self):
        length = self.length
        super().free()
        self.length = length


class FreesToTheFront(Right):
    def free(self):
        free = list(self.pool["free"])
        super().free()
        self.pool["free"][:] = self.pool["free"][len(free) :] + free


class TakesTheLast(Right):
    def take(self):
        self.pool["free"].insert(0, self.pool["free"].pop())
        return super().take()


class TooEarly(Right):
    def grow(self, count):
        while len(self.blocks) <= (self.length + count) // self.pool["size"]:
            self.blocks.append(self.take())


class TooLate(Right):
    def grow(self, count):
        while len(self.blocks) < (self.length + count) // self.pool["size"]:
            self.blocks.append(self.take())


class LengthStays(Right):
    def append(self, count):
        copies = super().append(count)
        self.length -= count
        return copies


MUTANTS = {
    "08.4": [
        Mutant("no copy", NoCopy, "it changes under their eyes"),
        Mutant("copies at the boundary", CopiesAtTheBoundary, "a block is copied without need"),
        Mutant("copies its own", CopiesItsOwn, "a block is copied without need"),
        Mutant("copies for nothing", CopiesForNothing, "and something will be written"),
        Mutant("copies all shared", CopiesAll, "only the last, partly filled block is copied"),
        Mutant("the old keeps its reference", OldKeepsItsReference, "its references say 2"),
        Mutant("the new has no reference", NewHasNoReference, "its references say 0"),
        Mutant("to and from", BothWays, "the old block comes first"),
        Mutant("tells nobody", TellsNobody, "tell (from, to)"),
        Mutant("append returns nothing", ReturnsNothing, "append returns a list of (from, to)"),
        Mutant("one number", OneNumber, "a list of pairs"),
        Mutant("free keeps the length", FreeKeepsLength, "without blocks and of length 0"),
        Mutant("frees to the front", FreesToTheFront, "goes to the *end* of the line"),
        Mutant("takes the last", TakesTheLast, "from the front of the line"),
        Mutant("the copy is lost", CopyIsLost, "the copy takes the old block's place"),
        Mutant("the copy at the end", CopyAtTheEnd, "the copy takes the old block's place"),
        Mutant("an eager fork", EagerFork, "a fork takes no block"),
        Mutant("the same list", SameList, "does it share its list of blocks"),
        Mutant("a fork without references", NoReferences, "its references say 1"),
        Mutant("a fork of length 0", LengthForgotten, "yours says 0"),
        Mutant("a fork of full blocks", FullBlocksOnly, "table B has 6 tokens; yours says 6, in 1 blocks"),
        Mutant("fork returns nothing", ForkReturnsNothing, "fork returns the new table"),
        Mutant("frees what others read", FreesShared, "it is free when the last reference goes"),
        Mutant("never frees", NeverFrees, "it should be among the free ones once"),
        Mutant("free forgets references", FreeForgetsReferences, "its references say"),
        Mutant("too early", TooEarly, "append takes 0 blocks here"),
        Mutant("too late", TooLate, "tokens need"),
        Mutant("length stays", LengthStays, "its length says"),
    ],
}
