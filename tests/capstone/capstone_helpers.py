"""Learners' files for the tests, and one process that takes many of them in turn: starting one takes seconds."""
from minilm.capstone.entry import Entry, read
from minilm.capstone.runners import Learners, Runner

MODEL = "minilm-1m"
HONEST = """
from minilm.decoding import autoregressive

def decode(model, prompt, max_new_tokens):
    return autoregressive(model, prompt, max_new_tokens)
"""


def entry(source: str, role: str = "decode", name: str = "ann", folder: str = "") -> Entry:
    return Entry(name, "my_decoder.py", role, source, folder)


def written(folder, source: str, name: str = "my_decoder.py"):
    """The path of a new file with this text."""
    path = folder / name
    path.write_text(source, encoding="utf-8")
    return path


class Desk:
    """`take(source)` gives Learners as the race has them, all in one process as long as nobody breaks it.

    spoils: it will leave the process such that only others who spoil it can use it still.
    """

    def __init__(self) -> None:
        self.runner: Runner | None = None
        self.spoilt = False

    def take(self, source: str, role: str = "decode", *, folder: str = "", spoils: bool = False) -> Learners:
        if self.runner is None or self.runner.session.broken or (self.spoilt and not spoils):
            self.close()
            self.runner = Runner(MODEL)
        self.spoilt = spoils
        mine = Learners.__new__(Learners)
        mine.session, mine.calls = self.runner.session, self.runner.calls
        mine.entry = entry(source, role, folder=folder)
        mine.seconds = mine.processor = 0.0
        mine.own = mine._members()
        mine.resume()
        self.runner.session.run("EXITS = None; import torch; torch.set_num_threads(1)", "desk", 10)
        mine._load()
        mine.pause()
        return mine

    def close(self) -> None:
        if self.runner is not None:
            self.runner.close()
            self.runner = None


__all__ = ["HONEST", "MODEL", "Desk", "entry", "read", "written"]
