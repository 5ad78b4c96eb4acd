"""Exercises of chapter 08: blocks shared by several tables, and copied before they are written to."""

import copy
from collections import Counter

from minilm.lab.exercise import Exercise
from minilm.lab.exercises.ch05_shared import plain_ints
from minilm.lab.expect import Failed
from minilm.lab.values import kind, show

# --- 08.4 -------------------------------------------------------------------------------------------------------------

ex4 = Exercise(
    "08.4",
    "Fork, and copy on write",
    answer="Table",
    task="a block table with fork(), append(count) that copies a shared last block first, and free()",
    hints=(
        "Two tables point at the same blocks. Into which of them can anyone still write: the full ones, or the last, "
        "partly filled one? What would the other one read there, if you just wrote?",
        "fork: a list of its own, the same blocks, one reference more for each. append: if the last block has a free "
        "place and references > 1, take a new block in its stead and tell (from, to). free: a block is free again when "
        "its last reference goes.",
        "append: last, place = divmod(length, size); if place and references[blocks[last]] > 1: new = free.pop(0); "
        "copies = [(blocks[last], new)]; references[blocks[last]] -= 1; references[new] = 1; blocks[last] = new. Then "
        "as in 08.3.",
    ),
    points=2,
)


def _up(tokens, size):
    return -(-tokens // size)


class Scene:
    """Tables of the learner's beside what they should hold: texts written into a memory of slots."""

    def __init__(self, answer, size, num_blocks):
        self.pool = {"size": size, "free": list(range(num_blocks)), "references": [0] * num_blocks}
        self.size, self.num_blocks, self.told = size, num_blocks, []
        self.memory = [None] * num_blocks * size
        self.tables, self.texts = {"A": answer(copy.deepcopy(self.pool))}, {"A": []}

    def play(self, script):
        """"A+3": three tokens for A;  "A>B": B is forked from A;  "A-": A is freed."""
        for op in script.split():
            self.told.append(op)
            table, line = self.tables[op[0]], list(self.books()["free"])
            self.do(op[0], op[1], op[2:])
            self.check_lists()
            self.check_books()
            self.check_texts()
            if op[1] == "-":
                self.check_freed(op[0], table, line)

    def do(self, name, what, rest):
        before, table = self.used(), self.tables[name]
        if what == ">":
            child = table.fork()
            if child is None:
                self.fail("fork returns the new table; yours returns None: is a `return` missing?")
            self.tables[rest], self.texts[rest] = child, list(self.texts[name])
            if self.used() != before:
                self.fail("a fork takes no block: both point at the same ones, until somebody writes")
        elif what == "-":
            table.free()
            del self.tables[name], self.texts[name]
        else:
            self.append(name, table, int(rest), before)

    def append(self, name, table, count, before):
        text, size, old = self.texts[name], self.size, list(table.blocks)
        line = list(self.books()["free"])
        last, place = divmod(len(text), size)
        owners = sum(old[last] in other.blocks for other in self.tables.values()) if place else 0
        copies = table.append(count)
        if not isinstance(copies, list):
            self.fail(f"append returns a list of (from, to), [] where nothing is copied; yours returns {kind(copies)}")
        shared = bool(place) and owners > 1 and count > 0
        self.check_copies(copies, shared, old, last if shared else None, table)
        for source, target in copies:
            for i in range(size):
                self.memory[target * size + i] = self.memory[source * size + i]
        blocks = list(table.blocks)
        if len(blocks) * size < len(text) + count:
            self.fail(f"{len(text) + count} tokens need {_up(len(text) + count, size)} blocks of {size}; table {name} "
                      f"has {len(blocks)}")
        for i in range(len(text), len(text) + count):
            token = f"{name}{i}"
            self.memory[blocks[i // size] * size + i % size] = token
            text.append(token)
        if table.length != len(text):
            self.fail(f"table {name} holds {len(text)} tokens now; its length says {table.length}")
        need = shared + _up(len(text), size) - len(old)
        if self.used() - before != need:
            self.fail(f"append takes {need} block{'s' * (need != 1)} here, a copy included; yours takes "
                      f"{self.used() - before}")
        if list(self.books()["free"]) != line[need:]:
            self.fail(f"blocks are taken from the front of the line, as in 08.3; here {show(line[:need])} was due")

    def check_copies(self, copies, shared, old, last, table):
        if not shared and copies:
            self.fail("a block is copied without need: copy only if it is the last one, partly filled, others point at "
                      "it, and something will be written")
        if not shared:
            return
        if not copies:
            self.fail("others point at the last, partly filled block: written to, it changes under their eyes. Take a "
                      "new block for it, and tell (from, to)")
        if any(not isinstance(pair, (tuple, list)) or len(pair) != 2 for pair in copies):
            self.fail("append returns a list of pairs, (from, to)")
        source, target = copies[0]
        if len(copies) > 1:
            self.fail("only the last, partly filled block is copied: full ones are never written to, and stay shared")
        if target == old[last] and source != target:
            self.fail("(from, to): the old block comes first; yours would write the new one's rest over the old one")
        if source != old[last] or list(table.blocks)[last] != target:
            self.fail("the copy takes the old block's place in the table, and (from, to) are the old one and the new")

    def check_freed(self, name, table, line):
        if table.length or list(table.blocks):
            self.fail(f"after free() table {name} is empty, without blocks and of length 0; yours has blocks "
                      f"{show(list(table.blocks))} and length {show(table.length)}")
        if list(self.books()["free"])[: len(line)] != line:
            self.fail("a block that becomes free goes to the *end* of the line, behind those that are free already")

    def check_lists(self):
        for name, table in self.tables.items():
            plain_ints(list(table.blocks), "a table's blocks")
            if len(table.blocks) > _up(len(self.texts[name]), self.size):
                self.fail(f"table {name} has {len(self.texts[name])} tokens and {len(table.blocks)} blocks, without "
                          "having asked for them: does it share its list of blocks with another table?")

    def check_books(self):
        pool = self.books()
        free, references = list(pool["free"]), list(pool["references"])
        pointed = Counter(block for table in self.tables.values() for block in table.blocks)
        for block in range(self.num_blocks):
            if pointed[block] and block in free:
                self.fail(f"block {block} is free while {_tables(pointed[block])} at it: it is free when the last "
                          "reference goes")
            if references[block] != pointed[block]:
                self.fail(f"{_tables(pointed[block])} at block {block}; its references say {references[block]}")
            if not pointed[block] and free.count(block) != 1:
                self.fail(f"no table points at block {block}; it should be among the free ones once, and is there "
                          f"{free.count(block)} times")

    def check_texts(self):
        for name, table in self.tables.items():
            blocks, text = list(table.blocks), self.texts[name]
            if table.length != len(text) or len(blocks) != _up(len(text), self.size):
                self.fail(f"table {name} has {len(text)} tokens; yours says {table.length}, in {len(blocks)} blocks")
            read = [self.memory[blocks[i // self.size] * self.size + i % self.size] for i in range(len(text))]
            wrong = next((i for i, (a, b) in enumerate(zip(read, text, strict=True)) if a != b), None)
            if wrong is not None:
                self.fail(f"token {wrong} of table {name} has changed: a block was written to that it reads, too")

    def books(self):
        return next(iter(self.tables.values())).pool if self.tables else self.pool

    def used(self):
        return self.num_blocks - len(self.books()["free"])

    def fail(self, message):
        tables = ", ".join(f"{name} {list(table.blocks)}" for name, table in self.tables.items())
        raise Failed(message, [("so far", " ".join(self.told) + f" in blocks of {self.size} (A+3: 3 tokens for A, A>B: "
                                                                "fork, A-: free)"),
                               ("tables", tables), ("pool", show(self.books(), 300))])


def _tables(count):
    return {0: "no table points", 1: "1 table points"}.get(count, f"{count} tables point")


@ex4.check("one table alone", mistake="append as in 08.3")
def _(answer):
    Scene(answer, 4, 6).play("A+3 A+1 A+1 A+7")


@ex4.check("a fork shares all blocks", mistake="the same blocks, one reference more for each")
def _(answer):
    Scene(answer, 4, 6).play("A+8 A>B B>C")
    Scene(answer, 4, 6).play("A+6 A>B A>C")


@ex4.check("a full last block is not copied", mistake="place 0: the next token goes into a new block")
def _(answer):
    Scene(answer, 4, 6).play("A+8 A>B B+1 A+2")


@ex4.check("free gives back what nobody else reads", mistake="one reference less for each block")
def _(answer):
    Scene(answer, 4, 6).play("A+8 A>B B- A>C C+3 C- A+1")


@ex4.check("the last partial block is copied before it is written to", mistake="a copy for whoever writes while others "
           "point at the block")
def _(answer):
    Scene(answer, 4, 6).play("A+6 A>B B+1 A+1")
    Scene(answer, 4, 8).play("A+3 A>B A+1 A+1 B+6")


@ex4.check("the last one to write needs no copy", mistake="references > 1, at the time of writing")
def _(answer):
    Scene(answer, 4, 9).play("A+6 A>B A>C A+1 B+3 C+1 C+2")
    Scene(answer, 4, 6).play("A+2 A>B A>C B- A+1 C- A+1")


@ex4.check("nothing appended, nothing copied", mistake="append(0) changes nothing")
def _(answer):
    Scene(answer, 4, 6).play("A+6 A>B B+0 A>C A- B+2")


@ex4.check("a long life", mistake="the books must be right at every step")
def _(answer):
    Scene(answer, 3, 16).play("A+4 A>B A>C B+1 C+3 B>D D+2 A+1 B- A+5 C>E E+1 D- E>F F+4 A- F- E+2 C+7 E- C>G G+2")
    Scene(answer, 1, 12).play("A+2 A>B A+1 B+2 B>C C- A+1 B+1")
