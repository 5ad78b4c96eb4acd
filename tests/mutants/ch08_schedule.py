"""Wrong answers to 08.6: one step's schedule."""

import math

from mutants import Mutant


class Step:
    """A right answer, in parts that the wrong ones change."""

    def __init__(self, running, waiting, free, budget, size):
        self.running, self.waiting, self.live = running, waiting, list(running)
        self.free, self.budget, self.size, self.work, self.left = free, budget, size, [], []

    def lacks(self, request, count):
        return max(0, math.ceil((request["held"] + count) / self.size) - request["blocks"])

    def pending(self, request):
        return request["text"] - request["held"]

    def victim(self, request):
        return self.live[-1]

    def gives(self, request):
        return request["blocks"]

    def feed(self, request, count):
        self.work.append((request["id"], count))
        self.budget -= count
        self.free -= self.lacks(request, count)

    def leave(self, request):
        self.live.remove(request)
        self.free += self.gives(request)
        self.left.append(request["id"])

    def continue_(self, request):
        count = min(self.budget, self.pending(request))
        if not count:
            return
        while self.lacks(request, count) > self.free:
            victim = self.victim(request)
            self.leave(victim)
            if victim is request:
                return
        self.feed(request, count)

    def run(self):
        for request in self.running:
            if request in self.live:
                self.continue_(request)

    def fits(self, request):
        return math.ceil(request["text"] / self.size) <= self.free

    def admit(self):
        for request in self.waiting:
            if self.left or not self.budget or not self.fits(request):
                break
            self.feed(request, min(self.budget, request["text"]))

    def decide(self):
        self.run()
        self.admit()
        return self.work, self.left


def answer(step):
    return lambda *case: step(*case).decide()


class Oldest(Step):
    def victim(self, request):
        return self.live[0]


class Itself(Step):
    def victim(self, request):
        return request


class StillFeeds(Step):
    def run(self):
        for request in self.running:
            if request in self.live:
                self.continue_(request)
            else:
                self.feed(request, min(self.budget, self.pending(request)))


class Overtaken(Step):
    def admit(self):
        for request in self.waiting:
            if not self.budget or not self.fits(request):
                break
            self.feed(request, min(self.budget, request["text"]))


class SkipsTheLarge(Step):
    def admit(self):
        for request in self.waiting:
            if not self.left and self.budget and self.fits(request):
                self.feed(request, min(self.budget, request["text"]))


class NoChunks(Step):
    def fits(self, request):
        return super().fits(request) and request["text"] <= self.budget


class BudgetForEach(Step):
    def feed(self, request, count):
        super().feed(request, count)
        self.budget += count


class NewOnesFirst(Step):
    def decide(self):
        self.admit()
        self.run()
        return self.work, self.left


class ChunkFits(Step):
    def fits(self, request):
        return math.ceil(min(self.budget, request["text"]) / self.size) <= self.free


class FreeForever(Step):
    def feed(self, request, count):
        self.work.append((request["id"], count))
        self.budget -= count


class GivesNothing(Step):
    def gives(self, request):
        return 0

    def victim(self, request):
        return self.live[-1]


class GivesOne(Step):
    def gives(self, request):
        return 1


class TooEarly(Step):
    def lacks(self, request, count):
        if request in self.waiting:
            return super().lacks(request, count)
        return (request["held"] + count) // self.size + 1 - request["blocks"]


class TooLate(Step):
    def lacks(self, request, count):
        if request in self.waiting:
            return super().lacks(request, count)
        return max(0, (request["held"] + count) // self.size - request["blocks"])


class BlocksForTheCount(Step):
    def lacks(self, request, count):
        return math.ceil(count / self.size)


class OneToken(Step):
    def pending(self, request):
        return 1


class WholeTextAgain(Step):
    def pending(self, request):
        return request["text"]


class OneStarts(Step):
    def admit(self):
        self.waiting = self.waiting[:1]
        super().admit()


class ShortestFirst(Step):
    def admit(self):
        self.waiting = sorted(self.waiting, key=lambda request: request["text"])
        super().admit()


class YoungestFirst(Step):
    def run(self):
        self.running = self.running[::-1]
        super().run()


class NoBlocksNoMatter(Step):
    def continue_(self, request):
        count = min(self.budget, self.pending(request))
        if count:
            self.feed(request, count)


class Stalls(Step):
    def continue_(self, request):
        count = min(self.budget, self.pending(request))
        if count and self.lacks(request, count) <= self.free:
            self.feed(request, count)


class Pushes(Step):
    def admit(self):
        for request in self.waiting if not self.left else []:
            while not self.fits(request) and self.live:
                victim = self.live[-1]
                fed = dict(self.work).get(victim["id"], 0)
                self.free += self.lacks(victim, fed)
                self.work = [pair for pair in self.work if pair[0] != victim["id"]]
                self.leave(victim)
            if not self.budget or not self.fits(request):
                break
            self.feed(request, min(self.budget, request["text"]))


class ListsTheIdle(Step):
    def continue_(self, request):
        if self.budget:
            super().continue_(request)
        else:
            self.feed(request, 0)


class NobodyJoins(Step):
    def admit(self):
        pass


class StaticBatch(Step):
    def admit(self):
        if not self.running:
            super().admit()


class ChunkPastTheBudget(Step):
    def continue_(self, request):
        count = self.pending(request)
        if self.budget and self.lacks(request, count) <= self.free:
            self.feed(request, count)
            self.budget = max(self.budget, 0)
        elif self.budget:
            super().continue_(request)


def eats_running(running, waiting, free, budget, size):
    """Right, but it takes requests out of the list that it was given."""
    work, left = Step(running, waiting, free, budget, size).decide()
    running[:] = [request for request in running if request["id"] not in left]
    return work, left


def ids_alone(running, waiting, free, budget, size):
    return [id for id, _ in Step(running, waiting, free, budget, size).decide()[0]]


MUTANTS = {
    "08.6": [
        Mutant("the oldest leaves", answer(Oldest), "yours sends the oldest away"),
        Mutant("leaves itself", answer(Itself), "who lacks a block does not leave itself"),
        Mutant("still feeds", answer(StillFeeds), "who had to leave feeds nothing"),
        Mutant("overtaken", answer(Overtaken), "nobody younger starts before it"),
        Mutant("skips the large one", answer(SkipsTheLarge), "those behind it wait, too"),
        Mutant("no chunks", answer(NoChunks), "is read in chunks"),
        Mutant("a budget for each", answer(BudgetForEach), "the budget is for all"),
        Mutant("new ones first", answer(NewOnesFirst), "the running ones come first"),
        Mutant("the chunk fits", answer(ChunkFits), "when its *whole* text fits"),
        Mutant("blocks stay free", answer(FreeForever), "count them off"),
        Mutant("gives one", answer(GivesOne), "yours gives one"),
        Mutant("too early", answer(TooEarly), "a block is needed only when"),
        Mutant("too late", answer(TooLate), "the token after a full block needs a new one"),
        Mutant("blocks for the count", answer(BlocksForTheCount), "count those that it lacks"),
        Mutant("one token", answer(OneToken), "in the middle of its prompt"),
        Mutant("the whole text again", answer(WholeTextAgain), "yours feeds its whole text again"),
        Mutant("one starts", answer(OneStarts), "yours lets in one a step"),
        Mutant("the shortest first", answer(ShortestFirst), "yours lets the shortest in first"),
        Mutant("the youngest first", answer(YoungestFirst), "yours begins with the youngest"),
        Mutant("no blocks, no matter", answer(NoBlocksNoMatter), "yours feeds it all the same"),
        Mutant("stalls", answer(Stalls), "makes the youngest leave; yours waits"),
        Mutant("pushes others out", answer(Pushes), "nobody starts by sending others away"),
        Mutant("lists the idle", answer(ListsTheIdle), "no (id, 0)"),
        Mutant("nobody joins", answer(NobodyJoins), "whoever waits joins in the same step"),
        Mutant("a static batch", answer(StaticBatch), "yours waits until all are done"),
        Mutant("past the budget", answer(ChunkPastTheBudget), "ends with the budget"),
        Mutant("eats its input", eats_running, "changes its input running in place"),
        Mutant("ids alone", ids_alone, "return 2 things"),
    ],
}
