"""Small words for readers: what prints a number with its noun, or cuts what is too long."""


def counted(number: int, noun: str) -> str:
    """"1 round", "2 rounds"."""
    return f"{number} {noun}{'s' * (number != 1)}"


def shortened(text: str, room: int) -> str:
    """`text`, cut to `room` characters (2 at least), of which the last says that there was more."""
    return text if len(text) <= room else text[: max(room - 1, 1)] + "…"
