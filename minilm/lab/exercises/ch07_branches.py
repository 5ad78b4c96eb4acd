"""Exercises of chapter 07: positions and mask of one lookahead step."""

import torch

from minilm.lab.exercise import Exercise, agree, expect
from minilm.lab.exercises.ch05_shared import Part

# --- 07.3 -------------------------------------------------------------------------------------------------------------

ex3 = Exercise(
    "07.3",
    "One lookahead step",
    answer="step_inputs(width, ngram, guesses, length)",
    task="(positions[n], mask[n, length + n]) of a window's and the guesses' tokens: where each stands, what it sees",
    hints=(
        "Take a token of the window's third row. Which token did it follow when the model named it, and which did that "
        "one follow, and so on, down to the text?",
        "Row j, column i continues row j - 1, column i, down to row 0, whose tokens follow each other: so it stands at "
        "length + i + j. A guess's token k follows its earlier ones, and these row 0's column 0: length + 1 + k.",
        "for j, i: n = j * width + i; mask[n, length : length + i + 1] = True, and True at length + row * width + i "
        "for row in 0..j. For guess g, k: start = width * (ngram - 1) + g * (ngram - 1); True at length, and from "
        "length + start to length + start + k. And mask[:, :length] = True.",
    ),
    points=2,
)
NAMES_3 = ("positions", "mask")


def _tokens(width, ngram, guesses):
    """Every token fed, in order: (0, row, column) of the window, (1, guess, place) of the guesses."""
    return [*((0, j, i) for j in range(ngram - 1) for i in range(width)),
            *((1, g, k) for g in range(guesses) for k in range(ngram - 1))]


LAST = (0, 0, 0)                                                # the text's last token


def _place(token):
    """Tokens after the text's last one."""
    branch, a, b = token
    return b + 1 if branch else a + b


def _sees(token, other):
    """Whether a token sees another that was fed with it."""
    branch, a, b = token
    if branch:
        return other == LAST or (other[:2] == (1, a) and other[2] <= b)
    return not other[0] and ((other[1] == 0 and other[2] <= b) or (other[2] == b and other[1] <= a))


def step_inputs(width, ngram, guesses, length):
    """The reference: (int64[n], bool[n, length + n])"""
    return _positions(_place)(width, ngram, guesses, length), _mask(_sees)(width, ngram, guesses, length)


def _positions(place):
    """Positions with a place of one's own: place(token), or place(token, tokens)."""
    def positions(width, ngram, guesses, length):
        return torch.tensor([length + place(token) for token in _tokens(width, ngram, guesses)])
    return positions


def _mask(sees, text=True):
    """The mask with a rule of one's own: sees(token, other)."""
    def mask(width, ngram, guesses, length):
        tokens = _tokens(width, ngram, guesses)
        inside = torch.tensor([[bool(sees(token, other)) for other in tokens] for token in tokens])
        return torch.cat([torch.full((len(tokens), length), text), inside], 1)
    return mask


def _numbered(width, ngram, guesses, length):
    return length + torch.arange((width + guesses) * (ngram - 1))


def _window_numbered(width, ngram, guesses, length):
    """The mistake of numbering the window's rows one after the other."""
    right = _positions(_place)(width, ngram, guesses, length)
    right[: width * (ngram - 1)] = length + torch.arange(width * (ngram - 1))
    return right


def _guesses_numbered(width, ngram, guesses, length):
    right = _positions(_place)(width, ngram, guesses, length)
    right[width * (ngram - 1) :] = length + 1 + torch.arange(guesses * (ngram - 1))
    return right


def _by_columns(width, ngram, guesses):
    """The mistake of a window laid out column by column: where each token of it is in the right order."""
    window = [j * width + i for i in range(width) for j in range(ngram - 1)]
    return [*window, *range(len(window), len(window) + guesses * (ngram - 1))]


def _column_positions(width, ngram, guesses, length):
    return _positions(_place)(width, ngram, guesses, length)[_by_columns(width, ngram, guesses)]


def _column_mask(width, ngram, guesses, length):
    order = _by_columns(width, ngram, guesses)
    right = _mask(_sees)(width, ngram, guesses, length)[order]
    return right[:, [*range(length), *(length + n for n in order)]]


def _after_window(far):
    """The mistake of guesses that continue the window: they begin `far` places after the last token."""
    def positions(width, ngram, guesses, length):
        return _positions(lambda t: t[2] + far(width, ngram) if t[0] else _place(t))(width, ngram, guesses, length)
    return positions


WRONG_POSITIONS = {
    "positions by the order fed: many tokens of a step are guesses for the same place": _numbered,
    "the window is fed row by row; yours goes down column by column": _column_positions,
    "row j stands j places further than row 0: token i of it at length + i + j": _positions(
        lambda t: t[2] + 1 if t[0] else t[2]),
    "a row's tokens stand side by side: token i of row j at length + i + j; yours has the whole row in one place":
        _positions(lambda t: t[2] + 1 if t[0] else t[1]),
    "the window's rows are no text one after the other: row j begins where row 0's token j stands":
        _window_numbered,
    "a guess continues the text's last token, which stands at `length`: it begins one after": _positions(
        lambda t: t[2] if t[0] else _place(t)),
    "each guess begins anew after the text's last token; yours follow each other": _guesses_numbered,
    "guesses continue the text's last token, not the window": _after_window(lambda w, n: w + n - 2),
    "guesses continue the text's last token, not the window's row 0": _after_window(lambda w, n: w),
    "one too large: the text's last token, the first one fed, stands at `length`": _positions(lambda t: _place(t) + 1),
    "one too small: `length` tokens are held, so the first free position is `length`": _positions(
        lambda t: _place(t) - 1),
    "the step stands after `length` tokens; you count from 0": lambda w, n, g, length: _positions(_place)(w, n, g, 0),
}
WRONG_MASK = {
    "every token sees all that was fed before it, as in a plain text; the branches must not see each other":
        _mask(lambda t, o: o <= t),
    "a guess sees the window; of the window it may see the text's last token alone":
        _mask(lambda t, o: _sees(t, o) or (t[0] and not o[0])),
    "a guess sees the window's row 0; of it, it may see the text's last token alone":
        _mask(lambda t, o: _sees(t, o) or (t[0] and o[:2] == (0, 0))),
    "guesses see each other; each is a story of its own": _mask(lambda t, o: _sees(t, o) or (t[0] and o[0] and o <= t)),
    "a guess's tokens see later ones of the guess, too; only earlier ones and themselves":
        _mask(lambda t, o: _sees(t, o) or (t[0] and t[:2] == o[:2])),
    "a guess's tokens see its earlier tokens, too, not the text's last token and themselves alone":
        _mask(lambda t, o: _sees(t, o) and (not t[0] or o in (t, LAST))),
    "a guess continues the text's last token, which is fed in this step, column `length`: it sees that, too":
        _mask(lambda t, o: _sees(t, o) and not (t[0] and not o[0])),
    "the window sees the guesses": _mask(lambda t, o: _sees(t, o) or (not t[0] and o[0])),
    "a window's token sees all of row 0; only its columns up to its own":
        _mask(lambda t, o: _sees(t, o) or (not t[0] and o[:2] == (0, 0))),
    "a column begins in row 0, whose tokens follow each other: it sees row 0's earlier columns, too":
        _mask(lambda t, o: _sees(t, o) and (t[0] or o[2] == t[2])),
    "a token of the newer rows sees its own column, and none of the other columns but in row 0":
        _mask(lambda t, o: _sees(t, o) or (not t[0] and not o[0] and o[1] <= t[1] and o[2] <= t[2])),
    "each row is read along itself; row j continues row j - 1, in the same column":
        _mask(lambda t, o: _sees(t, o) if t[0] else o[:2] == t[:2] and o[2] <= t[2]),
    "of its column a token sees all rows, the newer ones too; only older rows and itself":
        _mask(lambda t, o: _sees(t, o) or (not t[0] and not o[0] and o[2] == t[2])),
    "a token sees the row just above alone; it goes on up the column to row 0":
        _mask(lambda t, o: _sees(t, o) and (t[0] or o[1] in (0, t[1] - 1, t[1]))),
    "a column goes straight down: column i of row j continues column i of row j - 1; yours leans to the left":
        _mask(lambda t, o: _sees(t, o) if t[0] else not o[0] and o[1] <= t[1] and (
            o[2] == max(t[2] - t[1] + o[1], 0) or (o[1] == 0 and o[2] <= t[2] - t[1]))),
    "the window is fed row by row; the order of yours is column by column": _column_mask,
    "a token sees itself, too": _mask(lambda t, o: _sees(t, o) and t != o),
    "the `length` tokens held are seen by all: the first `length` columns are True": _mask(_sees, text=False),
    "the tokens held come first: columns 0 to length - 1, then those fed": lambda w, n, g, length: _mask(_sees)(
        w, n, g, length).roll(-length, 1),
    "mask[a, b] says whether a sees b; yours says whether b sees a": _mask(lambda t, o: _sees(o, t)),
    "True means: may see; yours is the other way round": _mask(lambda t, o: not _sees(t, o), text=False),
}
STEPS = [(1, 2, 0, 1), (2, 2, 0, 2), (1, 3, 0, 2), (1, 2, 1, 2), (2, 2, 1, 1), (2, 3, 0, 1), (3, 3, 0, 2), (2, 3, 1, 2),
         (1, 3, 2, 3), (3, 4, 0, 2), (3, 4, 2, 3), (4, 5, 3, 2)]


@ex3.check("a token stands one after what it continues", mistake="row j, column i at length + i + j; a guess from "
           "length + 1 on")
def _(answer):
    agree(Part(answer, NAMES_3, 0), lambda *case: step_inputs(*case)[0], STEPS, wrong=WRONG_POSITIONS)


@ex3.check("each branch sees the text and itself", mistake="the window's columns, the guesses: none sees another")
def _(answer):
    agree(Part(answer, NAMES_3, 1), lambda *case: step_inputs(*case)[1], STEPS, wrong=WRONG_MASK)


@ex3.check("n = 2 without guesses is a plain text", mistake="one row, each token sees those before: the causal mask")
def _(answer):
    expect(answer(4, 2, 0, 3), step_inputs(4, 2, 0, 3))


@ex3.check("nothing held", mistake="with length 0 the positions begin at 0")
def _(answer):
    expect(answer(2, 3, 1, 0), step_inputs(2, 3, 1, 0))
