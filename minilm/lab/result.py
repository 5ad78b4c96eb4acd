"""What `check`, `hint` and `progress` show: the same content as plain text and as HTML."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

# Okabe-Ito; the words beside them carry the meaning too.
_COLOUR = {"holds": "#009E73", "solved": "#009E73", "fails": "#D55E00", "tried": "#E69F00"}
_MARK = {"holds": "\u2713", "fails": "\u2717", "not run": "\u2013", "solved": "\u2713", "tried": "~", "open": "\u25cb"}


class CheckFailed(AssertionError):
    """Raised in strict mode by an exercise that is not solved; its traceback is the message itself."""

    def _render_traceback_(self) -> list[str]:  # IPython asks for this
        return str(self).split("\n")


@dataclass(frozen=True)
class Outcome:
    """How one check went. state: holds, fails or not run. facts: (label, text) pairs such as ("got", "[1, 2]")."""

    name: str
    state: str
    message: str = ""
    facts: tuple[tuple[str, str], ...] = ()

    def but(self, **changes) -> Outcome:
        """A copy with some fields changed."""
        return replace(self, **changes)


@dataclass(frozen=True, repr=False)
class Result:
    """How an exercise went. state: solved, failed or not attempted; message: said beside the outcomes."""

    id: str
    title: str
    state: str
    outcomes: tuple[Outcome, ...] = ()
    message: str = ""
    note: str = ""

    @property
    def solved(self) -> bool:
        """Whether every check holds."""
        return self.state == "solved"

    @property
    def first_failure(self) -> Outcome | None:
        """The first check that does not hold."""
        return next((outcome for outcome in self.outcomes if outcome.state == "fails"), None)

    @property
    def mistake(self) -> str:
        """The likely mistake, or the reason why no check ran; empty when solved."""
        if self.solved:
            return ""
        return self.first_failure.message if self.first_failure else self.message

    def require(self) -> Result:
        """Raise CheckFailed unless solved."""
        if not self.solved:
            raise CheckFailed(str(self))
        return self

    @property
    def headline(self) -> str:
        """01.1 RMSNorm: solved, all 4 checks hold"""
        holding = sum(outcome.state == "holds" for outcome in self.outcomes)
        if self.solved:
            verdict = f"solved, all {holding} checks hold" if holding != 1 else "solved, its check holds"
        elif self.outcomes:
            verdict = f"not yet, {holding} of {len(self.outcomes)} checks hold"
        else:
            verdict = "not attempted" if self.state == "not attempted" else "not yet"
        return f"{self.id} {self.title}: {verdict}"

    def __repr__(self) -> str:
        lines = [self.headline]
        if self.message:
            lines.append(f"  {_sentence(self.message)}")
        for outcome in self.outcomes:
            lines.append(f"  {outcome.state:<7} {outcome.name}")
            if outcome is self.first_failure:
                lines.append(f"          {_sentence(outcome.message)}")
                lines += [f"          {label:<9} {text}" for label, text in outcome.facts]
        return "\n".join(lines + ([f"  ({self.note})"] if self.note else []))

    def _repr_html_(self) -> str:
        parts = [f"<b>{escape(self.headline)}</b>"]
        if self.message:
            parts.append(f"<div>{escape(_sentence(self.message))}</div>")
        for outcome in self.outcomes:
            parts.append(_row(outcome.state, f"{outcome.state}: {outcome.name}"))
            if outcome is self.first_failure:
                parts.append(_details(outcome))
        if self.note:
            parts.append(f"<div><i>{escape(self.note)}</i></div>")
        return _frame("solved" if self.solved else "fails" if self.outcomes else "", parts)


@dataclass(frozen=True, repr=False)
class Lines:
    """A headline and lines, for hints and progress. rows: (state or "", text)."""

    headline: str
    rows: Sequence[tuple[str, str]]
    note: str = ""

    def __repr__(self) -> str:
        lines = [self.headline]
        lines += [f"  {state:<7} {text}" if state else f"  {text}" for state, text in self.rows]
        return "\n".join(lines + ([f"  ({self.note})"] if self.note else []))

    def _repr_html_(self) -> str:
        parts = [f"<b>{escape(self.headline)}</b>"]
        for state, text in self.rows:
            parts.append(_row(state, f"{state}: {text}") if state else _text(text))
        if self.note:
            parts.append(f"<div><i>{escape(self.note)}</i></div>")
        return _frame("", parts)


def _sentence(text: str) -> str:
    """First letter up, a full stop at the end."""
    text = text.strip()
    if re.match(r"(a|[a-z][a-z'-]+)[,;:.?]?( |$)", text):  # a word; symbols such as p, u or mask[i, j] stay as they are
        text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "?", "!", "`")) else text + "."


def _row(state: str, text: str) -> str:
    colour = f' style="color:{_COLOUR[state]}"' if state in _COLOUR else ""
    return f"<div><span{colour}>{_MARK.get(state, '')}</span> {escape(text)}</div>"


def _text(text: str) -> str:
    return f'<div style="white-space:pre-wrap;margin:.3em 0">{escape(text)}</div>'


def _details(outcome: Outcome) -> str:
    rows = "".join(
        f'<tr><td style="text-align:left;opacity:.75">{escape(label)}</td>'
        f'<td style="text-align:left"><code>{escape(text)}</code></td></tr>'
        for label, text in outcome.facts
    )
    table = f"<table>{rows}</table>" if rows else ""
    return f'<div style="margin-left:1.2em"><b>{escape(_sentence(outcome.message))}</b>{table}</div>'


def _frame(state: str, parts: list[str]) -> str:
    colour = _COLOUR.get(state, "#888888")
    return f'<div style="border-left:4px solid {colour};padding:.2em .8em">{"".join(parts)}</div>'
