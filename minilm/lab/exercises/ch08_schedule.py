"""Exercises of chapter 08: who feeds what in the next step."""

from minilm.lab.exercise import Exercise, agree
from minilm.lab.exercises.ch05_shared import Part, plain_ints
from minilm.lab.expect import Failed
from minilm.lab.values import show

# --- 08.6 -------------------------------------------------------------------------------------------------------------

ex6 = Exercise(
    "08.6",
    "One step's schedule",
    answer="schedule(running, waiting, free, budget, size)",
    task="([(id, tokens that it feeds), ...], [ids that had to leave, ...]) of one step under the budget",
    hints=(
        "Go through the running ones, the oldest first. What does each need in blocks, and who gives if that is not "
        "there? Then the line: who may start, and when must everybody behind wait, too?",
        "Running: count = min(budget left, text - held). While its blocks don't suffice, the last of running leaves, "
        "and its blocks are free; if that was itself, it feeds nothing. Waiting: stop at the first whose whole text "
        "does not fit, at budget 0, and if anyone had to leave.",
        "for request in list(running): if it left: continue; count = ...; needed = -(-(held + count) // size) - "
        "blocks; while needed > free: victim = live.pop(); free += victim['blocks']; left.append(victim['id']); if "
        "victim is request: break. Else: work.append((id, count)); budget -= count; free -= needed.",
    ),
    points=2,
)
NAMES_6 = ("work", "left")


def schedule(running, waiting, free, budget, size):
    """The reference: (list of (id, count), list of ids)"""
    return _schedule(running, waiting, free, budget, size)


def _up(tokens, size):
    return -(-tokens // size)


def _needs(request, count, size):
    return max(0, _up(request["held"] + count, size) - request["blocks"])


def _schedule(running, waiting, free, budget, size, *, victim=-1, needs=_needs, pending=lambda r: r["text"] - r["held"],
              give=lambda r: r["blocks"], spend=lambda count: count, take=lambda needed: needed, still=True, late=False,
              whole=lambda r, count: r["text"], skip=False, first="running", chunks=True, line=list, room=True,
              order=list, itself=False, runs=lambda count, text: count, one_in=False, idle=False):
    """The answer, but for one thing."""
    live, work, left = list(running), [], []

    def join(budget, free):
        for request in line(waiting):
            count = min(budget, request["text"])
            fits = _up(whole(request, count), size) <= free and (chunks or request["text"] <= budget)
            if (left and not late) or not budget or not fits:
                if skip and budget and not left:
                    continue
                break
            work.append((request["id"], count))
            budget, free = budget - spend(count), free - take(_up(count, size))
            if one_in:
                break
        return budget, free

    if first == "waiting":
        budget, free = join(budget, free)
    for request in order(running):
        if still and request not in live:
            continue
        count = runs(min(budget, pending(request)), pending(request))
        if not count and not idle:
            continue
        needed = needs(request, count, size)
        while needed > free and live and room:
            gone = live.pop(live.index(request) if itself and request in live else victim)
            free += give(gone)
            left.append(gone["id"])
            if gone is request:
                break
        if request in live or not still:
            work.append((request["id"], count))
            budget, free = budget - spend(count), free - take(needed)
    if first == "running":
        join(budget, free)
    return work, left


def _but(**change):
    return lambda *case: _schedule(*case, **change)


WRONG_6 = {
    "the *youngest* leaves, the last of the running; yours sends the oldest away, who then starves": _but(victim=0),
    "who lacks a block does not leave itself: the youngest leaves for it": _but(itself=True),
    "who had to leave feeds nothing in this step": _but(still=False),
    "who had to leave is first in line again: nobody younger starts before it": _but(late=True),
    "first come, first served: where the first in line does not fit, those behind it wait, too": _but(skip=True),
    "a prompt longer than the budget left is read in chunks; yours waits for a budget that takes all of it": _but(
        chunks=False),
    "the budget is for all of the step's tokens; yours gives it to each": _but(spend=lambda count: 0),
    "the running ones come first; yours lets new ones in before": _but(first="waiting"),
    "a request starts when its *whole* text fits into the free blocks, not only the chunk it feeds now": _but(
        whole=lambda r, count: count),
    "blocks that were taken in this step are free no longer: count them off": _but(take=lambda needed: 0),
    "who leaves gives all of its blocks back: they are free": _but(give=lambda r: 0),
    "who leaves gives *all* of its blocks back; yours gives one": _but(give=lambda r: 1),
    "a block is needed only when the tokens held and fed pass those that there are: round up": _but(
        needs=lambda r, count, size: (r["held"] + count) // size + 1 - r["blocks"]),
    "the token after a full block needs a new one: round up": _but(
        needs=lambda r, count, size: max(0, (r["held"] + count) // size - r["blocks"])),
    "a running one has blocks already: count those that it lacks": _but(
        needs=lambda r, count, size: _up(count, size)),
    "a running one feeds all that is not held yet, as far as the budget goes: it may be in the middle of its prompt":
        _but(pending=lambda r: 1),
    "a running one feeds what is not held yet, text - held; yours feeds its whole text again": _but(
        pending=lambda r: r["text"]),
    "a chunk of a running one's prompt ends with the budget": _but(runs=lambda count, text: text if count else 0),
    "with no budget left nobody feeds: list those who feed something, no (id, 0)": _but(idle=True),
    "as long as budget and blocks allow, all who wait may start; yours lets in one a step": _but(one_in=True),
    "first come, first served: yours lets the shortest in first": _but(
        line=lambda waiting: sorted(waiting, key=lambda r: r["text"])),
    "the running ones are served in the order they came, the oldest first; yours begins with the youngest": _but(
        order=lambda running: list(running)[::-1]),
    "no block is there for it: then the youngest has to leave; yours feeds it all the same": _but(room=False),
    "who lacks a block makes the youngest leave; yours waits": lambda *case: _waits(*case),
    "nobody starts by sending others away: those in line wait until they fit": lambda *case: _pushes(*case),
    "whoever waits joins in the same step, while budget and blocks last": lambda running, waiting, *rest: _schedule(
        running, [], *rest),
    "new ones join while others run; yours waits until all are done": lambda running, waiting, *rest: _schedule(
        running, [] if running else waiting, *rest),
}


def _waits(running, waiting, free, budget, size):
    """The mistake of a stall."""
    work = []
    for request in running:
        count = min(budget, request["text"] - request["held"])
        needed = _needs(request, count, size)
        if count and needed <= free:
            work.append((request["id"], count))
            budget, free = budget - count, free - needed
    more = schedule([], waiting, free, budget, size)[0]
    return work + more, []


def _pushes(running, waiting, free, budget, size):
    work, left = schedule(running, [], free, budget, size)
    live = [r for r in running if r["id"] not in left]
    used = sum(r["blocks"] for r in running) + free
    fed = dict(work)
    free = used - sum(_up(r["held"] + fed.get(r["id"], 0), size) for r in live)
    budget -= sum(fed.values())
    for request in waiting if not left else ():
        while _up(request["text"], size) > free and live:
            gone = live.pop()
            work = [w for w in work if w[0] != gone["id"]]
            free += gone["blocks"]
            left.append(gone["id"])
        if not budget or _up(request["text"], size) > free:
            break
        count = min(budget, request["text"])
        work.append((request["id"], count))
        budget, free = budget - count, free - _up(count, size)
    return work, left


def run(id, text, held, size=4):
    """A running request, its blocks as many as it needs."""
    return {"id": id, "text": text, "held": held, "blocks": _up(held, size)}


def wait(id, text):
    return {"id": id, "text": text, "held": 0, "blocks": 0}


STEPS = [
    ([], [], 3, 8, 4), ([run(0, 3, 2)], [], 0, 8, 4), ([run(0, 5, 4)], [], 1, 8, 4), ([run(0, 4, 3)], [], 0, 8, 4),
    ([], [wait(0, 5)], 2, 8, 4), ([], [wait(0, 5)], 1, 8, 4), ([], [wait(0, 9)], 9, 4, 4), ([], [wait(0, 9)], 2, 4, 4),
    ([], [wait(0, 8)], 2, 8, 4), ([], [wait(0, 5), wait(1, 3)], 9, 8, 4), ([], [wait(0, 5), wait(1, 3)], 2, 9, 4),
    ([], [wait(0, 9), wait(1, 3)], 2, 20, 4), ([], [wait(0, 7), wait(1, 3)], 5, 9, 4), ([], [wait(0, 2)], 2, 8, 4),
    ([], [wait(0, 5), wait(1, 6), wait(2, 2)], 9, 7, 4), ([], [wait(0, 3), wait(1, 2), wait(2, 2)], 2, 20, 4),
    ([run(0, 12, 4)], [], 5, 6, 4), ([run(0, 12, 4)], [], 5, 20, 4), ([run(0, 12, 4)], [wait(1, 3)], 5, 9, 4),
    ([run(0, 5, 4), run(1, 3, 2)], [], 0, 8, 4), ([run(0, 3, 2), run(1, 5, 4)], [], 0, 8, 4),
    ([run(0, 5, 4), run(1, 9, 8), run(2, 6, 5)], [], 0, 8, 4), ([run(0, 5, 4), run(1, 9, 8)], [wait(2, 2)], 0, 8, 4),
    ([run(0, 9, 8), run(1, 5, 4), run(2, 5, 4), run(3, 7, 6)], [wait(4, 2)], 0, 8, 4),
    ([run(0, 9, 8), run(1, 9, 8), run(2, 2, 1), run(3, 2, 1)], [], 0, 8, 4),
    ([run(0, 3, 2), run(1, 3, 2), run(2, 3, 2)], [], 0, 2, 4), ([run(0, 3, 2)], [wait(1, 9)], 3, 4, 4),
    ([run(0, 3, 2)], [wait(1, 9), wait(2, 1)], 2, 14, 4), ([run(0, 3, 2), run(1, 14, 4)], [wait(2, 3)], 4, 6, 4),
    ([run(0, 3, 2), run(1, 5, 4)], [wait(2, 3), wait(3, 4)], 3, 20, 4), ([run(0, 3, 2)], [wait(1, 5)], 1, 20, 4),
    ([run(0, 13, 4), run(1, 9, 8)], [wait(2, 4)], 2, 12, 4), ([run(0, 20, 4), run(1, 9, 8)], [], 2, 16, 4),
    ([run(0, 3, 2, 1), run(1, 2, 1, 1), run(2, 4, 3, 1)], [wait(3, 1)], 1, 9, 1),
    ([{"id": 0, "text": 5, "held": 4, "blocks": 2}, run(1, 5, 4)], [wait(2, 3)], 1, 9, 4),
]


@ex6.check("who feeds how many tokens, and who has to leave", mistake="the running ones by age, then those in line, "
           "within budget and blocks; the youngest leaves, and only while blocks are missing")
def _(answer):
    agree(_Pair(answer), schedule, STEPS, wrong=WRONG_6)


class _Pair:
    """The answer, with a plain word if it does not return two lists."""

    def __init__(self, answer):
        self.answer = answer

    def __call__(self, *case):
        value = _Once(self.answer(*case))
        return tuple(list(Part(value, NAMES_6, index)()) for index in (0, 1))

    @property
    def shown(self):
        return self.answer.shown


class _Once:
    def __init__(self, value):
        self.value = value

    def __call__(self):
        return self.value


@ex6.check("plain ints", mistake="ids and counts are plain ints")
def _(answer):
    work, left = answer([run(0, 5, 4), run(1, 3, 2)], [wait(2, 3)], 0, 8, 4)
    for pair in work:
        plain_ints(list(pair), "ids and counts")
    plain_ints(left, "the ids that had to leave")


@ex6.check("everybody gets done, in order", mistake="nobody may wait forever")
def _(answer):
    size, blocks, budget = 4, 8, 10
    waiting = [wait(id, text) for id, text in enumerate([6, 17, 3, 9, 1, 12, 5])]
    ends = {request["id"]: request["text"] + 3 + request["id"] % 3 for request in waiting}
    running, done = [], []
    for _ in range(200):
        if not waiting and not running:
            break
        free = blocks - sum(request["blocks"] for request in running)
        work, left = answer(running, waiting, free, budget, size)
        every = {request["id"]: request for request in running + waiting}
        for id in left:
            every[id].update(held=0, blocks=0)
        for id, count in work:
            request = every[id]
            request["held"] += count
            request["blocks"] = _up(request["held"], size)
            request["text"] += request["held"] == request["text"]       # its next token
        finished = [request["id"] for request in every.values() if request["text"] == ends[request["id"]]]
        if sum(request["blocks"] for request in every.values()) > blocks or not work:
            raise Failed("nobody feeds anything, though some are not done" if not work else
                         f"{blocks} blocks are there; your steps come to need more", [("work", show(work))])
        fed = {id for id, _ in work}
        done += finished
        running = [r for id, r in sorted(every.items()) if id not in done and (r["held"] or id in fed)]
        waiting = [r for id, r in sorted(every.items()) if id not in done and not (r["held"] or id in fed)]
    if waiting or running:
        raise Failed(f"after 200 steps {len(waiting + running)} of 7 are not done: somebody waits forever")
