"""Flash-Decoding: one new token a sequence attends to a long cache, and the cache is split over many programs.

A decode step has B · K independent problems (sequences times key-value heads), each of them a walk over all its keys.
With few sequences that leaves most multiprocessors idle, so each walk is cut into splits that run side by side, and
their states are merged (Dao, Haziza, Massa and Sizov 2023). What limits it is reading k and v once.
"""
from torch import Tensor

from minilm.kernels import reference
from minilm.kernels.backend import check_heads, check_lengths, check_shape, check_tensors, launches
from minilm.kernels.split_kv import attend
from minilm.kernels.splits import check_split


def flash_decoding(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, *, num_splits: int | None = None,
                   split_size: int | None = None) -> Tensor:
    """softmax(q kᵀ / sqrt(D)) v for one token a sequence: q[B, H, D], k and v[B, K, S, D], lengths[B] -> [B, H, D].

    lengths: int32 or int64, keys of each row that count, from 0 (that row gives zeros) to S; it stays on the device.
    num_splits: into how many splits each row's keys are cut; None chooses it from the shapes (`splits.choose_splits`).
    split_size: or else, how many keys a split has; then a row's result is bitwise the same in every batch.
    Raises ValueError or TypeError for shapes, dtypes, devices or head sizes that don't fit.
    """
    check_tensors(q=q, k=k, v=v)
    check_shape("q", q, "B H D")
    B, H, D = q.shape
    check_shape("k", k, "B K S D", B=B, D=D)
    K, S = k.shape[1:3]
    check_shape("v", v, "B K S D", B=B, K=K, S=S, D=D)
    check_heads(H, K, D)
    check_lengths(lengths, B, 0, S, q)
    check_split(num_splits, split_size)
    if not launches(q):
        return reference.flash_decoding(q, k, v, lengths)
    return attend(q[:, None], k, v, lengths, num_splits=num_splits, split_size=split_size)[:, 0]
