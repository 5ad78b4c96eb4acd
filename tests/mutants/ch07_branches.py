"""Wrong answers to 07.3: positions and mask of one lookahead step."""

import torch

from mutants import Mutant


def index(width, ngram, guesses):
    """branch (0 window, 1 guesses), row or guess, column or place: three tensors [n]."""
    rows = [(0, j, i) for j in range(ngram - 1) for i in range(width)]
    rows += [(1, g, k) for g in range(guesses) for k in range(ngram - 1)]
    return torch.tensor(rows).T


def places(width, ngram, guesses):
    branch, a, b = index(width, ngram, guesses)
    return torch.where(branch == 1, b + 1, a + b)


def sees(width, ngram, guesses):
    """[n, n], row by row as one would write it."""
    size = ngram - 1
    out = torch.zeros((width + guesses) * size, (width + guesses) * size, dtype=torch.bool)
    for j in range(size):
        for i in range(width):
            out[j * width + i, : i + 1] = True
            for row in range(j + 1):
                out[j * width + i, row * width + i] = True
    for g in range(guesses):
        start = (width + g) * size
        for k in range(size):
            out[start + k, 0] = True
            out[start + k, start : start + k + 1] = True
    return out


def held(inside, length):
    return torch.cat([torch.ones(len(inside), length, dtype=torch.bool), inside], dim=1)


def right(width, ngram, guesses, length):
    return length + places(width, ngram, guesses), held(sees(width, ngram, guesses), length)


def placed(change):
    """Wrong positions: change(width, ngram, guesses, places) -> places."""
    def answer(width, ngram, guesses, length):
        positions = change(width, ngram, guesses, places(width, ngram, guesses))
        return length + positions, held(sees(width, ngram, guesses), length)
    return answer


def masked(change):
    """A wrong mask: change(width, ngram, guesses, sees) -> sees."""
    def answer(width, ngram, guesses, length):
        inside = change(width, ngram, guesses, sees(width, ngram, guesses))
        return length + places(width, ngram, guesses), held(inside, length)
    return answer


def columns_alone(w, n, g, at):
    branch, _, b = index(w, n, g)
    return b + branch


def rows_alone(w, n, g, at):
    branch, a, b = index(w, n, g)
    return torch.where(branch == 1, b + 1, a)


def rows_in_line(w, n, g, at):
    return torch.cat([torch.arange(w * (n - 1)), at[w * (n - 1) :]])


def guesses_one_early(w, n, g, at):
    return at - index(w, n, g)[0]


def guesses_in_line(w, n, g, at):
    return torch.cat([at[: w * (n - 1)], 1 + torch.arange(g * (n - 1))])


def guesses_after_window(w, n, g, at):
    branch, _, b = index(w, n, g)
    return torch.where(branch == 1, w + n - 2 + b, at)


def guesses_after_row_0(w, n, g, at):
    branch, _, b = index(w, n, g)
    return torch.where(branch == 1, w + b, at)


def from_zero(width, ngram, guesses, length):
    return places(width, ngram, guesses), held(sees(width, ngram, guesses), length)


def all_before(w, n, g, inside):
    return torch.ones_like(inside).tril()


def guesses_see_window(w, n, g, inside):
    inside[w * (n - 1) :, : w * (n - 1)] = True
    return inside


def guesses_see_row_0(w, n, g, inside):
    inside[w * (n - 1) :, :w] = True
    return inside


def guesses_see_each_other(w, n, g, inside):
    start = w * (n - 1)
    inside[start:, start:] = torch.ones(g * (n - 1), g * (n - 1), dtype=torch.bool).tril()
    return inside


def guesses_see_ahead(w, n, g, inside):
    for start in range(w * (n - 1), len(inside), n - 1):
        inside[start : start + n - 1, start : start + n - 1] = True
    return inside


def guess_tokens_alone(w, n, g, inside):
    start = w * (n - 1)
    inside[start:, start:] = torch.eye(g * (n - 1)).bool()
    return inside


def guesses_without_last(w, n, g, inside):
    inside[w * (n - 1) :, 0] = False
    return inside


def window_sees_guesses(w, n, g, inside):
    inside[: w * (n - 1), w * (n - 1) :] = True
    return inside


def all_of_row_0(w, n, g, inside):
    inside[: w * (n - 1), :w] = True
    return inside


def column_alone(w, n, g, inside):
    for node in range(w * (n - 1)):
        inside[node, :w] = False
        inside[node, node % w] = True
    return inside


def all_columns_before(w, n, g, inside):
    for node in range(w * (n - 1)):
        for row in range(node // w + 1):
            inside[node, row * w : row * w + node % w + 1] = True
    return inside


def rows_along(w, n, g, inside):
    row = torch.ones(w, w, dtype=torch.bool).tril()
    start = w * (n - 1)
    inside[:start, :start] = torch.block_diag(*[row] * (n - 1)).bool()
    return inside


def newer_rows_too(w, n, g, inside):
    for node in range(w * (n - 1)):
        inside[node, node % w : w * (n - 1) : w] = True
    return inside


def row_above_alone(w, n, g, inside):
    for node in range(w * (n - 1)):
        for row in range(1, node // w - 1):
            inside[node, row * w + node % w] = False
    return inside


def leans_left(w, n, g, inside):
    """Column i of row j continues column i - 1 of row j - 1."""
    start = w * (n - 1)
    inside[:start, :start] = False
    for node in range(start):
        if node < w:
            inside[node, : node + 1] = True
            continue
        j, i = divmod(node, w)
        above = (j - 1) * w + max(i - 1, 0)
        inside[node] = inside[above]
        inside[node, node] = True
    return inside


def not_itself(w, n, g, inside):
    return inside & ~torch.eye(len(inside)).bool()


def transposed(w, n, g, inside):
    return inside.T.contiguous()


def text_hidden(width, ngram, guesses, length):
    positions, mask = right(width, ngram, guesses, length)
    mask[:, :length] = False
    return positions, mask


def text_last(width, ngram, guesses, length):
    positions, mask = right(width, ngram, guesses, length)
    return positions, torch.cat([mask[:, length:], mask[:, :length]], 1)


def inverted(width, ngram, guesses, length):
    positions, mask = right(width, ngram, guesses, length)
    return positions, ~mask


def mask_of_ints(width, ngram, guesses, length):
    positions, mask = right(width, ngram, guesses, length)
    return positions, mask.int()


def fed_alone(width, ngram, guesses, length):
    positions, mask = right(width, ngram, guesses, length)
    return positions, mask[:, length:]


def _by_columns(width, ngram, guesses):
    fed = (width + guesses) * (ngram - 1)
    window = torch.arange(width * (ngram - 1)).reshape(ngram - 1, width).T.flatten()
    return torch.cat([window, torch.arange(len(window), fed)])


def down_the_columns(width, ngram, guesses, length):
    positions, mask = right(width, ngram, guesses, length)
    order = _by_columns(width, ngram, guesses)
    return positions[order], mask[order][:, torch.cat([torch.arange(length), length + order])]


def mask_down_the_columns(width, ngram, guesses, length):
    return right(width, ngram, guesses, length)[0], down_the_columns(width, ngram, guesses, length)[1]


def whole_window_rows(width, ngram, guesses, length):
    """N rows for N - 1."""
    return right(width, ngram + 1, guesses, length)


def positions_as_list(width, ngram, guesses, length):
    positions, mask = right(width, ngram, guesses, length)
    return positions.tolist(), mask


def positions_as_floats(width, ngram, guesses, length):
    positions, mask = right(width, ngram, guesses, length)
    return positions.float(), mask


def mask_alone(width, ngram, guesses, length):
    return right(width, ngram, guesses, length)[1]


MUTANTS = {
    "07.3": [
        Mutant("by order", placed(lambda w, n, g, at: torch.arange(len(at))), "positions by the order fed"),
        Mutant("columns alone", placed(columns_alone), "row j stands j places further than row 0"),
        Mutant("rows alone", placed(rows_alone), "a row's tokens stand side by side"),
        Mutant("rows in line", placed(rows_in_line), "the window's rows are no text one after the other"),
        Mutant("guesses one early", placed(guesses_one_early), "it begins one after"),
        Mutant("guesses in line", placed(guesses_in_line), "each guess begins anew"),
        Mutant("guesses after the window", placed(guesses_after_window), "not the window"),
        Mutant("guesses after row 0", placed(guesses_after_row_0), "not the window's row 0"),
        Mutant("one too large", placed(lambda w, n, g, at: at + 1), "one too large"),
        Mutant("one too small", placed(lambda w, n, g, at: at - 1), "one too small"),
        Mutant("from 0", from_zero, "you count from 0"),
        Mutant("all before", masked(all_before), "every token sees all that was fed before it"),
        Mutant("guesses see the window", masked(guesses_see_window), "a guess sees the window; of the window"),
        Mutant("guesses see row 0", masked(guesses_see_row_0), "a guess sees the window's row 0"),
        Mutant("guesses see each other", masked(guesses_see_each_other), "guesses see each other"),
        Mutant("guesses see ahead", masked(guesses_see_ahead), "later ones of the guess"),
        Mutant("guess tokens alone", masked(guess_tokens_alone), "a guess's tokens see its earlier tokens, too"),
        Mutant("guesses without the last token", masked(guesses_without_last), "it sees that, too"),
        Mutant("window sees guesses", masked(window_sees_guesses), "the window sees the guesses"),
        Mutant("all of row 0", masked(all_of_row_0), "a window's token sees all of row 0"),
        Mutant("column alone", masked(column_alone), "it sees row 0's earlier columns, too"),
        Mutant("all columns before", masked(all_columns_before), "none of the other columns but in row 0"),
        Mutant("rows along", masked(rows_along), "each row is read along itself"),
        Mutant("newer rows too", masked(newer_rows_too), "of its column a token sees all rows"),
        Mutant("row above alone", masked(row_above_alone), "a token sees the row just above alone"),
        Mutant("leans left", masked(leans_left), "yours leans to the left"),
        Mutant("down the columns", down_the_columns, "yours goes down column by column"),
        Mutant("mask down the columns", mask_down_the_columns, "the order of yours is column by column"),
        Mutant("not itself", masked(not_itself), "a token sees itself, too"),
        Mutant("text hidden", text_hidden, "the first `length` columns are True"),
        Mutant("text last", text_last, "the tokens held come first"),
        Mutant("transposed", masked(transposed), "yours says whether b sees a"),
        Mutant("inverted", inverted, "yours is the other way round"),
        Mutant("ints for bools", mask_of_ints, "your answer has dtype int32; it should be bool"),
        Mutant("fed alone", fed_alone, "your answer has shape (1, 1); it should be (1, 2)"),
        Mutant("n rows", whole_window_rows, "your answer has shape (2,); it should be (1,)"),
        Mutant("a list for a tensor", positions_as_list, "your function returns a list; it should return a tensor"),
        Mutant("floats for ints", positions_as_floats, "your answer has dtype float32; it should be int64"),
        Mutant("mask alone", mask_alone, "return 2 things: positions, mask"),
    ],
}
