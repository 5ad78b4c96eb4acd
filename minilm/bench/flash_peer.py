"""Flash attention for `transformers`' continuous batching from PyTorch's own build, where flash_attn is not installed.

It does what `transformers` does with that package: the new keys and values go into the paged cache, those of every text
are gathered from it, and one kernel attends, each text to its own. PyTorch carries that kernel (FlashAttention-2) too.
"""
import torch
from torch import Tensor

NAME = "paged|pytorch_varlen"


def register() -> None:
    """Make it known to `transformers` as the attention implementation NAME, and as what follows its "paged|"."""
    from transformers import AttentionInterface
    AttentionInterface.register(NAME, attend)
    AttentionInterface.register(NAME.removeprefix("paged|"), attend)


def attend(module: torch.nn.Module, q: Tensor, k: Tensor, v: Tensor, attention_mask: None, *, cache,
           cu_seq_lens_q: Tensor, cu_seq_lens_k: Tensor, max_seqlen_q: int, max_seqlen_k: int, read_index: list[Tensor],
           write_index: list[Tensor], scaling: float | None = None, **ignored) -> tuple[Tensor, None]:
    """q[1,H,T,D], k and v[1,K,T,D] of the new tokens of all texts, one after the other -> ([T,H,D], None).

    cu_seq_lens_q, cu_seq_lens_k: where each text's queries and keys begin and end. Causal, aligned at the end.
    """
    k, v = cache.update(key_states=k, value_states=v, layer_idx=module.layer_idx, read_index=read_index,
                        write_index=write_index)                                        # [all tokens, K, D]
    q = q.transpose(1, 2).squeeze(0).contiguous()
    out = varlen(q, k.contiguous(), v.contiguous(), cu_seq_lens_q.int(), cu_seq_lens_k.int(), max_seqlen_q,
                 max_seqlen_k, scaling)
    return out, None


def varlen(q: Tensor, k: Tensor, v: Tensor, starts_q: Tensor, starts_k: Tensor, longest_q: int, longest_k: int,
           scale: float | None) -> Tensor:
    """The kernel: q[T,H,D], k and v[S,K,D] of several texts, causal -> [T,H,D]. CUDA, float16 or bfloat16."""
    return torch.ops.aten._flash_attention_forward(q, k, v, starts_q, starts_k, longest_q, longest_k, 0.0, True, False,
                                                   scale=scale)[0]
