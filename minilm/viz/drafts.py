"""Speculative decoding round by round: what was drafted, what was kept, and where each token of the text comes from.

Any `Generation` that `decoding.speculative` returns will do, chains and trees alike:

    story = drafts.read(generation, tokenizer)
    widgets.player([drafts.frame(story, n) for n in range(len(story))], label="round", min_height=260)
    Html(drafts.rows(story, last=12), "drafts, round by round")          # the same, still
    Html(drafts.text(story), "text by origin")

Marks, the same in every lesson: ✓ accepted, ✗ rejected (dashed, struck through), ↺ recovered (drawn by the target in a
rejected draft's place), + bonus (the target's own, after all drafts of its branch were accepted), » from the prompt's
own pass. A rejected draft that stood after another rejected one is an outline: nobody had to judge it.
"""
from dataclasses import dataclass

from minilm.decoding.speculative import SpeculativePass
from minilm.generation import Generation
from minilm.viz import draft_nodes, html, theme

WORDS = draft_nodes.WORDS


@dataclass(frozen=True)
class Round:
    """One pass of the target.

    drafted[n]: texts of the guesses.  parents[n]: the node that each continues, -1 for the text.  roles[n]: "accepted",
    "rejected", or "plain" for one that was accepted but stands after the text's end.  judged[n]: False for a draft that
    stands after a rejected one.  last, last_role: the token after the accepted ones, or None where the text ended
    before it.  tree: whether it branches.
    """

    drafted: tuple[str, ...]
    parents: tuple[int, ...]
    roles: tuple[str, ...]
    judged: tuple[bool, ...]
    last: str | None
    last_role: str

    @property
    def tree(self) -> bool:
        return self.parents != tuple(range(-1, len(self.drafted) - 1))

    @property
    def path(self) -> list[int]:
        """The accepted nodes that became text, in order."""
        return [node for node, role in enumerate(self.roles) if role == "accepted"]

    @property
    def kept(self) -> list[tuple[str, str]]:
        """(text, role) of the tokens that this round added to the text."""
        added = [(self.drafted[node], "accepted") for node in self.path]
        return added if self.last is None else [*added, (self.last, self.last_role)]


@dataclass(frozen=True)
class Story:
    """The rounds of one generation; round 0 is the prompt's own pass."""

    rounds: tuple[Round, ...]

    def __len__(self) -> int:
        return len(self.rounds)

    @property
    def tokens(self) -> list[tuple[str, str]]:
        """(text, role) of every new token."""
        return [token for one in self.rounds for token in one.kept]


def read(generation: Generation, tokenizer) -> Story:
    """The story of a generation of `speculative`. Raises ValueError for another decoder's: its trace has no drafts."""
    if not generation.trace or not all(isinstance(step, SpeculativePass) for step in generation.trace):
        raise ValueError("this trace has no drafts: give a Generation that decoding.speculative returned")
    return Story(tuple(_round(step, tokenizer, first=n == 0) for n, step in enumerate(generation.trace)))


def _round(step: SpeculativePass, tokenizer, first: bool) -> Round:
    n = len(step.drafted)
    parents = tuple(range(-1, n - 1)) if step.parents is None else tuple(step.parents)
    kept = set(step.accepted[: len(step.emitted)])              # the end token or the limit may cut what was accepted
    on_path = {-1, *step.accepted}
    roles = tuple("accepted" if i in kept else "plain" if i in step.accepted else "rejected" for i in range(n))
    judged = tuple(parent in on_path for parent in parents)
    end = step.accepted[-1] if step.accepted else -1
    last_role = "prefill" if first else "plain" if not n else "recovered" if end in parents else "bonus"
    shown = html.texts(tokenizer, step.emitted[len(step.accepted):])
    return Round(tuple(html.texts(tokenizer, step.drafted)), parents, roles, judged, shown[0] if shown else None,
                 last_role)


# --- pictures --------------------------------------------------------------------------------------------------------

def frame(story: Story, n: int, *, recent: int = 40) -> str:
    """Round n: the text so far, whose new tokens carry their marks, and below it the drafts against what was kept.

    recent: how many of the last tokens of the text to show.
    """
    before = [token for one in story.rounds[:n] for token in one.kept][-recent:]
    now = story.rounds[n]
    old = "".join(html.chip(text, title=WORDS[role]) for text, role in before)
    new = "".join(_chip(text, role) for text, role in now.kept)
    dots = '<span style="opacity:.5;padding:0 4px">…</span>' if len(before) == recent else ""
    flow = f'<div style="{_ROW}">{dots}{old}{new}</div>'
    bench = "" if not now.drafted else draft_nodes.drawing(now) if now.tree else _chain(now)
    return html.card(html.stack(_headline(story, n), bench, _name("the text so far"), flow, gap=6))


def rows(story: Story, *, first: int = 1, last: int | None = None, caption: str = "") -> str:
    """Rounds first to last - 1, a row each: accepted drafts, the target's own token, then what was thrown away.

    Of a tree, the accepted path and the number of other nodes are shown.
    """
    lines = []
    for n, one in list(enumerate(story.rounds))[first:last]:
        kept = "".join(_chip(text, role) for text, role in one.kept)
        away = [node for node, role in enumerate(one.roles) if role != "accepted"]
        if one.tree:
            rest = f'<span style="{_SMALL}">and {len(away)} other nodes thrown away</span>' if away else ""
        else:
            rest = "".join(_chip(one.drafted[node], one.roles[node], one.judged[node], True) for node in away)
        gap = '<span style="display:inline-block;width:14px"></span>' if away else ""
        number = f'<span style="{_SMALL};display:inline-block;min-width:62px">round {n}</span>'
        count = f'<span style="{_SMALL};display:inline-block;min-width:24px;font-weight:600">+{len(one.kept)}</span>'
        lines.append(f'<div style="{_ROW};align-items:center">{number}{count}{kept}{gap}{rest}</div>')
    return html.card(html.stack(*lines, key(), gap=4), caption=caption)


def text(story: Story, *, caption: str = "") -> str:
    """The whole new text, each token marked by where it came from; hovering tells it in words."""
    chips = "".join(_chip(shown, role) for shown, role in story.tokens)
    flow = f'<div style="{_ROW}">{chips}</div>'
    return html.card(html.stack(flow, key("accepted", "recovered", "bonus", "prefill"), gap=6), caption=caption)


def key(*names: str) -> str:
    """What the marks mean."""
    return html.key(*(names or ("accepted", "rejected", "recovered", "bonus")))


def summary(story: Story) -> str:
    """One line: passes, tokens, and the shares of drafts kept."""
    drafted = sum(len(one.drafted) for one in story.rounds)
    accepted = sum(len(one.path) for one in story.rounds)
    tokens, passes = len(story.tokens), len(story)
    return (f"{tokens} tokens in {passes} passes of the target, {tokens / passes:.2f} a pass; "
            f"{accepted} of {drafted} drafts kept")


_ROW = "display:flex;flex-wrap:wrap;gap:3px"
_SMALL = f"font:12px/1.5 {theme.FONT};color:{theme.MUTED}"


def _name(words: str) -> str:
    return f'<div style="{_SMALL}">{words}</div>'


def _chip(shown: str, name: str, judged: bool = True, draft: bool = False) -> str:
    role = theme.role(name)
    words = WORDS[name] if judged else "stood after a rejected draft: not judged"
    if draft and name == "plain":
        words = "accepted, but the text had ended"
    color = role.color if judged else "transparent"             # what nobody judged: an outline, readable in any theme
    chip = html.chip(shown, color=color, mark=role.mark, line=role.line, strike=name == "rejected", title=words)
    return chip if judged else f'<span style="opacity:.6">{chip}</span>'


def _headline(story: Story, n: int) -> str:
    now = story.rounds[n]
    so_far = sum(len(one.kept) for one in story.rounds[: n + 1])
    if n == 0:
        told = "the prompt's own pass gives the first token"
    elif not now.drafted:
        told = "nothing was drafted: a plain step"
    else:
        told = f"{len(now.drafted)} drafted, {len(now.path)} accepted"
        told += f", then one {now.last_role} token" if now.last is not None else "; the text ends inside the draft"
    passes = "1 pass" if n == 0 else f"{n + 1} passes"
    count = "1 token" if so_far == 1 else f"{so_far} tokens"
    so_far_told = f"· so far {count} in {passes}, {so_far / (n + 1):.2f} a pass"
    return (f'<div style="font:13px/1.5 {theme.FONT}"><b>round {n}</b>: {told} '
            f'<span style="color:{theme.MUTED}">{so_far_told}</span></div>')


def _chain(now: Round) -> str:
    """Two rows: drafted, and under each place what became of it."""
    columns = len(now.drafted) + 1
    drafted = [_chip(shown, role, judged, True) for shown, role, judged in
               zip(now.drafted, now.roles, now.judged, strict=True)]
    kept = [_chip(shown, role) for shown, role in now.kept]
    table = "".join(f'<tr style="background:transparent"><td style="{_CELL};{_SMALL}">{name}</td>'
                    + "".join(f'<td style="{_CELL}">{cell}</td>' for cell in cells + [""] * (columns - len(cells)))
                    + "</tr>" for name, cells in (("drafted", drafted), ("kept", kept)))
    style = "border-collapse:collapse;margin:0;border:none;width:auto"
    return f'<div><table style="{style}"><tbody>{table}</tbody></table></div>'


_CELL = "padding:2px 3px;border:none;text-align:left;white-space:nowrap"
