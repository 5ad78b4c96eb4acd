"""Memory for keys and values in blocks of equal size, shared by reference count: the books, without the numbers.

PagedAttention (Kwon et al. 2023, §4) keeps a sequence's keys and values in blocks that may lie anywhere, and a block
table that says where, as an operating system does with pages. Nothing is reserved for tokens that may never come, a gap
fits every block, and two sequences with the same beginning can point at the same blocks. A shared block is copied only
when someone is about to write into it: copy-on-write, which can only ever concern a table's last, partly filled block.
"""
import hashlib
import itertools
from array import array
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np

from minilm.checks import check_count


class OutOfBlocks(RuntimeError):
    """No free block is left: somebody has to give some back first."""


class BlockPool:
    """`num_blocks` blocks of `block_size` tokens each: which are free, how many tables point at each, what they hold.

    A block that nobody points at is free, but what it holds may be remembered under a key (see `prefix_keys`) and found
    again until the block is taken for something else; the one that was freed longest ago is taken first.
    observer(event, block): told of "allocate", "share", "free" and "evict"; for pictures.
    """

    def __init__(self, num_blocks: int, block_size: int, observer: Callable[[str, int], None] | None = None):
        check_count("num_blocks", num_blocks, 1)
        check_count("block_size", block_size, 1)
        self.num_blocks, self.block_size = num_blocks, block_size
        self.references = [0] * num_blocks
        self._free = OrderedDict.fromkeys(range(num_blocks))            # the longest free first
        self._key_of: dict[int, bytes] = {}
        self._block_of: dict[bytes, int] = {}
        self._tell = observer or (lambda event, block: None)
        self.versions = itertools.count()                               # of tables; see `BlockTable`

    @property
    def num_free(self) -> int:
        return len(self._free)

    def allocate(self) -> int:
        """A block of one's own, its old content forgotten. Raises OutOfBlocks when there is none."""
        if not self._free:
            raise OutOfBlocks(f"all {self.num_blocks} blocks are in use")
        block, _ = self._free.popitem(last=False)
        if block in self._key_of:
            del self._block_of[self._key_of.pop(block)]
            self._tell("evict", block)
        self.references[block] = 1
        self._tell("allocate", block)
        return block

    def share(self, block: int) -> None:
        """One more points at `block`, which may be a free one that is remembered."""
        if self.references[block] == 0:
            if block not in self._key_of:
                raise ValueError(f"block {block} is free and holds nothing that is remembered")
            del self._free[block]
        self.references[block] += 1
        self._tell("share", block)

    def release(self, block: int) -> None:
        """One less points at `block`; the last one frees it."""
        if self.references[block] == 0:
            raise ValueError(f"block {block} is free already: it was released twice")
        self.references[block] -= 1
        if self.references[block] == 0:
            self._free[block] = None
            self._tell("free", block)

    def remember(self, block: int, key: bytes) -> None:
        """From now on `find(key)` gives this full block. Of two blocks with the same content the first is kept."""
        if key not in self._block_of and block not in self._key_of:
            self._block_of[key], self._key_of[block] = block, key

    def remembers(self, block: int) -> bool:
        return block in self._key_of

    def find(self, key: bytes) -> int | None:
        return self._block_of.get(key)


class BlockTable:
    """One sequence's blocks, in order: token i is in block blocks[i // block_size], place i % block_size.

    length: the tokens held. There may be more room than that, reserved for the tokens of the next pass.
    version: as long as it stays, what was noted of the blocks is right, as far as they hold tokens; no two tables ever
    have the same.
    """

    def __init__(self, pool: BlockPool):
        self.pool, self.blocks, self.length, self.version = pool, [], 0, next(pool.versions)

    def has_room(self, tokens: int) -> bool:
        """Whether `tokens` more can be written as it is: no block to be taken, none to be copied."""
        return self.length + tokens <= len(self.blocks) * self.pool.block_size and not self._must_copy(tokens)

    def blocks_needed(self, tokens: int) -> int:
        """How many free blocks it takes to write `tokens` more, a copy of a shared last block included."""
        return self._count(self.length + tokens) - len(self.blocks) + self._must_copy(tokens)

    def reserve(self, tokens: int) -> list[tuple[int, int]]:
        """Make room to write `tokens` more; all or nothing.

        Returns (from, to): blocks whose content must be copied before anything is written (copy-on-write). Raises
        OutOfBlocks, with nothing changed, when too few are free.
        """
        needed = self.blocks_needed(tokens)
        if needed > self.pool.num_free:
            raise OutOfBlocks(f"{needed} blocks are needed and {self.pool.num_free} are free")
        copies = []
        if self._must_copy(tokens):
            last = self.length // self.pool.block_size
            copies.append((self.blocks[last], self.pool.allocate()))
            self.pool.release(self.blocks[last])
            self.blocks[last], self.version = copies[0][1], next(self.pool.versions)
        while len(self.blocks) < self._count(self.length + tokens):
            self.blocks.append(self.pool.allocate())
            self.version = next(self.pool.versions)
        return copies

    def slots(self, start: int, end: int) -> np.ndarray:
        """Where tokens start to end are, int64: block · block_size + place (the field calls it the slot mapping)."""
        size = self.pool.block_size
        held = np.array(self.blocks[start // size : -(-end // size)], np.int64)
        return (held[:, None] * size + np.arange(size)).ravel()[start % size :][: end - start]

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` tokens, as after rejected drafts. The room stays reserved; see `trim`.

        Room that others may read is given back instead, for the next tokens must not be written there.
        """
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot truncate a table of {self.length} tokens to {length}")
        last, place = divmod(length, self.pool.block_size)
        if place and self.pool.remembers(self.blocks[last]):
            raise ValueError(f"token {length} is in a full block that others may find: only accepted tokens may be "
                             "remembered")
        room = self.blocks[self._count(length) :]
        for block in reversed(room):
            if self._others_read(block):
                self.pool.release(block)
                self.blocks.remove(block)
                self.version = next(self.pool.versions)                 # room behind it moves up
        self.length = length

    def trim(self) -> None:
        """Give back the room that no token took."""
        while len(self.blocks) > self._count(self.length):
            self.pool.release(self.blocks.pop())

    def fork(self) -> "BlockTable":
        """A second table for the same tokens: every block shared, none copied yet."""
        child = BlockTable(self.pool)
        child.join(self, self.length)
        return child

    def join(self, other: "BlockTable", length: int) -> None:
        """Begin with the first `length` tokens of another table, in the same blocks."""
        self._check_empty()
        self.blocks, self.length = other.blocks[: self._count(length)], length
        for block in self.blocks:
            self.pool.share(block)

    def free(self) -> None:
        """Give everything back, the end first, so that of a remembered text the beginning is evicted last."""
        while self.blocks:
            self.pool.release(self.blocks.pop())
        self.length = 0
        self.version = next(self.pool.versions)

    def adopt(self, keys: Sequence[bytes]) -> int:
        """Begin with the remembered blocks of a text with these keys, as far as they are there. Returns the tokens."""
        self._check_empty()
        for key in keys:
            block = self.pool.find(key)
            if block is None:
                break
            self.pool.share(block)
            self.blocks.append(block)
            self.length += self.pool.block_size
        return self.length

    def remember(self, keys: Sequence[bytes]) -> None:
        """Let others find the full blocks: keys[i] is block i's. Give no key of a token that may still be rejected."""
        for block, key in zip(self.blocks, keys[: self.length // self.pool.block_size], strict=False):
            self.pool.remember(block, key)

    def _count(self, tokens: int) -> int:
        return -(-tokens // self.pool.block_size)

    def _must_copy(self, tokens: int) -> bool:
        """Whether the next token goes into a block that others read."""
        last, place = divmod(self.length, self.pool.block_size)
        return tokens > 0 and place > 0 and self._others_read(self.blocks[last])

    def _others_read(self, block: int) -> bool:
        """Whether other tables point at this block of ours, or may find it."""
        return self.pool.references[block] > 1 or self.pool.remembers(block)

    def _check_empty(self) -> None:
        if self.blocks:
            raise ValueError(f"this table holds {len(self.blocks)} blocks already: free it first")


def prefix_keys(tokens: Sequence[int], block_size: int, known: Sequence[bytes] = ()) -> list[bytes]:
    """A key for every full block of a text: a hash of its tokens and of the key before it, so of all that precedes.

    The same key means the same tokens at the same positions, and so the same keys and values. known: the first keys, if
    they were made before.
    """
    keys = list(known)
    for start in range(len(keys) * block_size, len(tokens) - block_size + 1, block_size):
        parent = keys[-1] if keys else b""
        keys.append(hashlib.blake2b(parent + array("q", tokens[start : start + block_size]).tobytes(),
                                    digest_size=16).digest())
    return keys
