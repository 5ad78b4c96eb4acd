"""What a step did to the blocks, and why, in words: the captions of `block_view`."""

from minilm.text import counted
from minilm.viz import theme
from minilm.viz.block_trace import Shot, Table


def badge(place: int) -> str:
    """An owner's letter on its colour."""
    letter, color = theme.owner(place)
    return (f'<span style="display:inline-block;min-width:15px;text-align:center;border-radius:3px;background:{color};'
            f'color:{theme.ink(color)};font:600 11px/15px {theme.FONT}">{letter}</span>')


def told(before: Shot, after: Shot, places: dict[str, int]) -> list[str]:
    """A sentence (HTML) for each thing that happened between two shots."""
    name = lambda who: badge(places[who])                                                   # noqa: E731
    by_name = {event: [who for what, who in after.events if what == event] for event, _ in after.events}
    lines = [_left(before, after, event, who, name) for event in ("preempt", "swap out") for who in
             by_name.get(event, [])]
    lines += [_returned(before, after, who, name) for who in by_name.get("swap in", [])]
    lines += [_entered(before, after, event, who, name) for event in ("resume", "admit") for who in
              by_name.get(event, [])]
    lines += [_copied(before, after, who, name) for who in by_name.get("copy", [])]
    fresh = {who for event in ("admit", "resume", "fork", "copy") for who in by_name.get(event, [])}
    lines += _grew(before, after, fresh, name)
    if by_name.get("fork"):
        lines.append(_forked(after, by_name["fork"], name))
    lines += [_ended(before, after, who, event, name) for event in ("finish", "cancel") for who in
              by_name.get(event, [])]
    return lines


def _left(before: Shot, after: Shot, event: str, who: str, name) -> str:
    """Somebody younger made room."""
    blocks = {block for table in before.tables if _same_request(table.name, who) for block in table.blocks}
    if event == "swap out":
        return (f"<b>Preempt, swap out.</b> A block is needed and none is left. {name(who)} came last, so all "
                f"its {counted(len(blocks), 'block')} go to host memory; not one by one, for half a text is useless")
    return (f"<b>Preempt, recompute.</b> A block is needed and none is left. {name(who)} came last: its "
            f"{counted(len(blocks), 'block')} are freed, its text is kept and will be read again")


def _returned(before: Shot, after: Shot, who: str, name) -> str:
    stored = dict(before.host).get(who, 0)
    table = after.table(who)
    where = f", now {_blocks(table.blocks[:stored])}" if table else ""
    return (f"<b>Swap in, resume.</b> Room again: {name(who)}'s {counted(stored, 'block')} are copied back{where}. "
            "Other numbers than before: only the table knows")


def _entered(before: Shot, after: Shot, event: str, who: str, name) -> str:
    """Admitted, or admitted again; what of its text was found."""
    table, fed = after.table(who), dict(after.batch).get(who, 0)
    again = event == "resume"
    head = f"<b>{'Resume' if again else 'Admit'}.</b> {name(who)}"
    if table is None:
        return f"{head} runs"
    found = _found(after, table, fed)
    text = counted(table.length, "token")
    line = (f"{head} has {text} to read {'again ' if again else ''}(its prompt"
            f"{' and what it wrote' if again else ''}): {_blocks(table.blocks)}")
    if found:
        line += (f". <b>Share.</b> {_blocks(table.blocks[: found // after.block_size], True)} held the same "
                 f"{found} tokens already: found by their hash, only {counted(fed, 'token')} computed")
    elif after.block_size * len(table.blocks) > table.length:
        line += ", the last one partly filled"
    return line


def _found(after: Shot, table: Table, fed: int) -> int:
    """Tokens that were there already when it entered."""
    return table.length - fed if fed and table.length > fed else 0


def _copied(before: Shot, after: Shot, who: str, name) -> str:
    pair = copy_of(before, after, who)
    if pair is None:
        return f"<b>Copy on write.</b> {name(who)} copies a shared block before it writes"
    return (f"<b>Copy on write.</b> {name(who)} is about to write into block {pair[0]}, which another one reads too: "
            f"it takes block {pair[1]}, copies the tokens, writes there")


def copy_of(before: Shot, after: Shot, who: str) -> tuple[int, int] | None:
    """(from, to) of the block that a sequence copied in this step."""
    old, new = before.table(who), after.table(who)
    if old is None or new is None:
        return None
    return next(((a, b) for a, b in zip(old.blocks, new.blocks, strict=False) if a != b), None)


def _grew(before: Shot, after: Shot, fresh: set[str], name) -> list[str]:
    """Appends: into room at the end, or into a new block."""
    inside, taking = [], []
    for table in after.tables:
        old = before.table(table.name)
        if old is None or table.name in fresh or table.length == old.length:
            continue
        more = table.blocks[len(old.blocks):]
        (taking.append((table.name, more)) if more else inside.append(table.name))
    lines = []
    if taking:
        lines.append("<b>Append.</b> " + "; ".join(
            f"{name(who)}'s last block was full: it takes {_blocks(more)}" for who, more in taking))
    if inside:
        lines.append(f"<b>Append.</b> {_join([name(who) for who in inside])} write{'s' * (len(inside) == 1)} into the "
                     f"room in {'its' if len(inside) == 1 else 'their'} last block")
    return lines


def _forked(after: Shot, children: list[str], name) -> str:
    table = after.table(children[0])
    first = next((t.name for t in after.tables if _same_request(t.name, children[0])), children[0])
    held = f": {_blocks(table.blocks)} now {'have' if len(table.blocks) > 1 else 'has'} {len(children) + 1} owners, " \
           "nothing is copied" if table else ""
    return (f"<b>Fork.</b> The prompt is read; {_join([name(who) for who in children])} "
            f"begin{'s' * (len(children) == 1)} with {name(first)}'s table{held}")


def _ended(before: Shot, after: Shot, who: str, event: str, name) -> str:
    table = before.table(who)
    if table is None:
        return f"<b>{'Free' if event == 'finish' else 'Cancel'}.</b> {name(who)} is done"
    others = {block for other in before.tables if other.name != who for block in other.blocks}
    own = [block for block in table.blocks if block not in others]
    kept = any(not after.references[block] and after.places[block] for block in own)
    return (f"<b>{'Free' if event == 'finish' else 'Cancel'}.</b> {name(who)} is done: {_blocks(own)} back"
            f"{', full ones findable' * kept}{'; its share in the rest ends' * (len(own) < len(table.blocks))}")


def _same_request(a: str, b: str) -> bool:
    return a.split(".")[0] == b.split(".")[0]


def _blocks(blocks, capital: bool = False) -> str:
    word = "block" if len(blocks) == 1 else "blocks"
    return f"{word.capitalize() if capital else word} {_list(blocks)}" if blocks else "no block"


def _list(blocks) -> str:
    return _join([str(block) for block in blocks])


def _join(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""
