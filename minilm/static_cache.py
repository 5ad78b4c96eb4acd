"""What recorded passes read a text from: a cache in memory that never moves, and trees as bits of who sees whom."""
from itertools import pairwise

from torch import Tensor

from minilm.cache import KVCache, check_room
from minilm.model import GPTConfig

WIDEST = 256            # tokens of a pass; a longer prompt is read in several
WORDS = WIDEST // 64 + 1        # of 64 bits, for who sees whom in a tree: one bit more than tokens, so that one is 0


class StaticCache(KVCache):
    """A `KVCache` in memory that its model's graphs know. Plain passes may use it in turns with recorded ones."""

    def __init__(self, config: GPTConfig, memory: Tensor, capacity: int | None, spare: int):
        super().__init__(config, capacity=capacity, spare=spare, memory=memory)
        self._layout = Layout()

    def take_layout(self, num_tokens: int) -> "Layout | None":
        """The tree that the next tokens are, None for a chain; see `branch`. Raises ValueError when they don't fit."""
        parents, self._parents = self._parents, None
        check_room(self.length, num_tokens, self.capacity + (0 if parents is None else self.spare))
        if parents is None:
            return None
        self._layout.turn_into(parents)
        check_room(self.length, max(self._layout.depths) + 1, self.capacity)
        return self._layout

    def keep(self, length: int, tokens: list[int]) -> None:
        """As `KVCache.keep`. Tokens next to each other move as one piece, without a wait for the GPU."""
        if any(b <= a for a, b in pairwise(tokens)) or not all(0 <= token < self.length - length for token in tokens):
            return super().keep(length, tokens)
        first = 0
        for i in range(1, len(tokens) + 1):
            if i == len(tokens) or tokens[i] != tokens[i - 1] + 1:
                if tokens[first] != first:
                    source = self._all[..., length + tokens[first] : length + tokens[i - 1] + 1, :]
                    overlaps = tokens[first] < i                # then a copy in place would read what it has written
                    self._all[..., length + first : length + i, :] = source.clone() if overlaps else source
                first = i
        self.length = length + len(tokens)


class Layout:
    """A tree's depths[T] after the text, and for each token who sees whom, as bytes: bit j for token j of the pass.

    One tree after the other, as decoding needs them: what a tree begins with like the one before, as lookahead's window
    does, is not worked out again.
    """

    def __init__(self):
        self.parents: list[int] = []
        self.depths: list[int] = []
        self.sees: list[int] = []
        self.rows: list[bytes] = []

    def turn_into(self, parents: list[int]) -> None:
        """Raises ValueError when a token continues a later one."""
        same = next((i for i, (old, new) in enumerate(zip(self.parents, parents, strict=False)) if old != new),
                    min(len(self.parents), len(parents)))
        self.parents, depths, sees, rows = parents[:same], self.depths[:same], self.sees[:same], self.rows[:same]
        for token, parent in enumerate(parents[same:], same):
            if not -1 <= parent < token:
                raise ValueError(f"token {token} of a tree must continue an earlier one, or -1; it continues {parent}")
            depths.append(depths[parent] + 1 if parent >= 0 else 0)
            sees.append((sees[parent] if parent >= 0 else 0) | 1 << token)
            rows.append(sees[token].to_bytes(8 * WORDS, "little"))
        self.parents, self.depths, self.sees, self.rows = list(parents), depths, sees, rows
