"""Keys and values of the tokens already read, so that each new token costs one row of work and not a whole prompt.

The model hands every layer's new queries, keys and values to a cache and gets attention's output back. What the cache
does in between (append to one long array, follow a block table, call a Triton kernel) is its own affair:

    positions = cache.begin(T)                # where the next T tokens stand; raises when there is no room
    y = cache.attend(layer, q, k, v)          # once a layer; stores k, v and attends to all up to here
    cache.end(T)                              # the pass is over: those T tokens now belong to the context
"""
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Cache(Protocol):
    """What the model asks of a cache. Shapes: q[B, H, T, D], k and v[B, K, T, D], the answer [B, H, T, D]."""

    def begin(self, num_tokens: int) -> Tensor: ...
    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor: ...
    def end(self, num_tokens: int) -> None: ...


class FullAttention:
    """No cache: the tokens given are the whole text. Causal attention over them, nothing kept."""

    def __init__(self, max_positions: int):
        self.max_positions = max_positions

    def begin(self, num_tokens: int) -> Tensor:
        check_room(0, num_tokens, self.max_positions)
        return torch.arange(num_tokens)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=q.shape[1] != k.shape[1])

    def end(self, num_tokens: int) -> None:
        pass


class KVCache:
    """One contiguous array per layer, [B, K, capacity, D], filled from the left; all B rows have the same length.

    `capacity` (tokens) defaults to the model's `max_positions`. Memory: 2 · L · B · K · (capacity + spare) · D numbers.
    spare: room for the branches of a tree (see `branch`), which are all held until one is kept.
    memory: where to hold it, [2, L, B, K, capacity + spare or more, D], when it should be in a place of your own.
    """

    def __init__(self, config, batch_size: int = 1, *, capacity: int | None = None, spare: int = 0,
                 dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu",
                 memory: Tensor | None = None):
        capacity = config.max_positions if capacity is None else capacity
        if not 1 <= capacity <= config.max_positions:
            raise ValueError(f"capacity must be from 1 to the model's max_positions, {config.max_positions}; "
                             f"it is {capacity}")
        self.capacity, self.spare = capacity, spare
        self.length = 0
        shape = (2, config.num_layers, batch_size, config.num_kv_heads, capacity + spare, config.head_size)
        self._hold(torch.empty(shape, dtype=dtype, device=device) if memory is None else memory)
        self._mask: Tensor | None = None
        self._parents: list[int] | None = None

    def _hold(self, numbers: Tensor) -> None:
        """numbers[2, L, B, K, S, D]: keys, then values, of all layers in one piece, so that one call can move them."""
        self._all = numbers
        self._keys, self._values = ([numbers[half, layer] for layer in range(numbers.shape[1])] for half in (0, 1))

    def branch(self, parents: list[int]) -> None:
        """The next pass feeds a tree: token i continues token parents[i] < i of the same pass, or what is held (-1).

        Each token then stands one position after its parent and sees the tokens held and its own ancestors, no others.
        """
        self._parents = parents

    def begin(self, num_tokens: int) -> Tensor:
        """Positions[num_tokens] of the next tokens. Raises ValueError when they don't fit."""
        device = self._keys[0].device
        end = self.length + num_tokens
        self._mask = None
        if self._parents is not None:
            depths, sees = ancestry(self._parents)
            self._parents = None
            check_room(self.length, int(depths.max()) + 1, self.capacity)
            check_room(self.length, num_tokens, self.capacity + self.spare)
            self._mask = torch.ones(num_tokens, end, dtype=torch.bool, device=device)
            self._mask[:, self.length :] = sees
            return self.length + depths.to(device)
        check_room(self.length, num_tokens, self.capacity)
        if num_tokens > 1 and self.length > 0:      # new token i sees all the old ones and the new ones up to i
            self._mask = torch.ones(num_tokens, end, dtype=torch.bool, device=device).tril(self.length)
        return torch.arange(self.length, end, device=device)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        start, end = self.length, self.length + k.shape[2]
        self.write(layer, start, k, v)
        return F.scaled_dot_product_attention(
            q, self._keys[layer][:, :, :end], self._values[layer][:, :, :end], attn_mask=self._mask,
            is_causal=self._mask is None and start == 0 and end > 1, enable_gqa=q.shape[1] != k.shape[1])

    def end(self, num_tokens: int) -> None:
        self.length += num_tokens

    def write(self, layer: int, start: int, k: Tensor, v: Tensor) -> None:
        """Put keys and values [B, K, T, D] at tokens start to start + T of one layer."""
        self._keys[layer][:, :, start : start + k.shape[2]] = k
        self._values[layer][:, :, start : start + v.shape[2]] = v

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` tokens, as after rejected drafts. Costs nothing: the numbers stay."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot truncate a cache of {self.length} tokens to {length}")
        self.length = length

    def keep(self, length: int, tokens: list[int]) -> None:
        """Of what stands past the first `length` tokens keep only `tokens` (counted from there), moved together.

        After a tree was verified: the accepted path stays, the other branches go. Rotated keys may move, since a
        token of the path already has the position that it moves to.
        """
        held = self.length - length
        if any(not 0 <= token < held for token in tokens):
            raise ValueError(f"{held} tokens stand past the first {length}; cannot keep {tokens}")
        end = length + len(tokens)
        if tokens != list(range(len(tokens))):
            places = torch.tensor(tokens, device=self._all.device) + length
            self._all[..., length:end, :] = self._all[..., places, :]
        self.length = end

    def keys(self, layer: int) -> Tensor:
        """The layer's keys so far, [B, K, length, D], rotated: a view, not a copy."""
        return self._keys[layer][:, :, : self.length]

    def values(self, layer: int) -> Tensor:
        """The layer's values so far, [B, K, length, D]: a view, not a copy."""
        return self._values[layer][:, :, : self.length]

    @property
    def num_bytes(self) -> int:
        """Bytes that the tokens held take, over all layers."""
        return sum(2 * self.keys(layer).numel() * keys.element_size() for layer, keys in enumerate(self._keys))


def ancestry(parents: list[int]) -> tuple[Tensor, Tensor]:
    """(depth[T], sees[T, T]) of a tree's tokens: how many ancestors each has; itself and its ancestors as a mask."""
    paths: list[list[int]] = []
    for token, parent in enumerate(parents):
        if not -1 <= parent < token:
            raise ValueError(f"token {token} of a tree must continue an earlier one, or -1; it continues {parent}")
        paths.append([*(paths[parent] if parent >= 0 else ()), token])
    lengths = torch.tensor([len(path) for path in paths])
    rows = torch.arange(len(paths)).repeat_interleave(lengths)
    sees = torch.zeros(len(paths), len(paths), dtype=torch.bool)
    sees[rows, torch.tensor([token for path in paths for token in path])] = True
    return lengths - 1, sees


def check_room(held: int, new: int, room: int) -> None:
    if new < 1:
        raise ValueError("the prompt is empty: give at least one token")
    if held + new > room:
        raise ValueError(f"{held} tokens held and {new} new ones do not fit into {room} positions: shorten the prompt, "
                         f"ask for fewer new tokens, or make the cache larger (at most the model's max_positions)")
