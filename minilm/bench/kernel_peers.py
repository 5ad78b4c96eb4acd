"""Who runs in `minilm bench kernels`: ours and the peers, each as one call for every set of inputs.

What can be worked out before the step is outside the timed part for everyone: FlashInfer's plan(), FlexAttention's
compilation and block mask, block tables, our kernels' tuning. Outputs are compared as [B, H, m, D].
"""
import importlib.util
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from minilm.bench.kernel_cells import BLOCK, DTYPE, Attention, Inputs

FLASH, CUDNN, FLEX, FLASHINFER, FLASHINFER_PAGED = ("SDPA flash", "SDPA cuDNN", "FlexAttention", "FlashInfer",
                                                    "FlashInfer paged")
WORKSPACE = 256 << 20           # bytes that FlashInfer asks for to split in
Call = Callable[[], Tensor]


@dataclass(frozen=True)
class Contestant:
    """name: in tables and charts. make(cell, sets) -> a call for every set. view: its output as [B, H, m, D].

    ours: whether it is a kernel of `minilm.kernels`. paged: whether its cache lies in blocks in random order.
    """

    name: str
    make: Callable[[Attention, Sequence[Inputs]], list[Call]]
    view: Callable[[Tensor], Tensor] = lambda out: out
    ours: bool = False
    paged: bool = False


def tokens_first(out: Tensor) -> Tensor:
    """[B, m, H, D] as [B, H, m, D]."""
    return out.transpose(1, 2)


def one_query(out: Tensor) -> Tensor:
    """[B, H, D] as [B, H, 1, D]."""
    return out.unsqueeze(2)


# --- ours: imported when they run, so that the benchmark runs with the kernels there are -----------------------------

def flash_decoding(cell: Attention, sets: Sequence[Inputs], **options) -> list[Call]:
    from minilm import kernels
    return [partial(kernels.flash_decoding, x.q.squeeze(2), x.k, x.v, x.lengths, **options) for x in sets]


def paged_attention(cell: Attention, sets: Sequence[Inputs], **options) -> list[Call]:
    from minilm import kernels
    return [partial(kernels.paged_attention, x.q_tokens, *x.paged, x.tables, x.lengths, **options) for x in sets]


def flash_attention(cell: Attention, sets: Sequence[Inputs]) -> list[Call]:
    from minilm import kernels
    return [partial(kernels.flash_attention, x.q, x.k, x.v, causal=True) for x in sets]


# --- PyTorch ---------------------------------------------------------------------------------------------------------

def sdpa(backend: SDPBackend, cell: Attention, sets: Sequence[Inputs]) -> list[Call]:
    """scaled_dot_product_attention by one backend and no other; several queries see the keys up to their own."""
    options = {"enable_gqa": True}
    if cell.queries == cell.context:
        options["is_causal"] = True
    elif cell.queries > 1:
        from torch.nn.attention.bias import causal_lower_right
        options["attn_mask"] = causal_lower_right(cell.queries, cell.context)

    def run(x: Inputs) -> Tensor:
        with sdpa_kernel(backend):
            return F.scaled_dot_product_attention(x.q, x.k, x.v, **options)
    return [partial(run, x) for x in sets]


@cache
def _flex() -> tuple[Callable, Callable]:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention
    return torch.compile(flex_attention, dynamic=False), create_block_mask


@contextmanager
def many_shapes():
    """Lets FlexAttention compile once for every cell: past eight shapes it would run uncompiled, without a word."""
    import torch._dynamo  # its public home: torch._dynamo.config
    with torch._dynamo.config.patch(recompile_limit=256):
        yield


def flex(cell: Attention, sets: Sequence[Inputs]) -> list[Call]:
    """FlexAttention, compiled for the cell's shape.

    One query sees every key, and still gets a block mask: without one its decoding kernel has a single block and
    doesn't split (22 times as slow at B=1 and 128k).
    """
    compiled, create_block_mask = _flex()
    first = cell.context - cell.queries
    mask = create_block_mask(lambda b, h, i, j: j <= i + first, None, None, cell.queries, cell.context,
                             device=sets[0].q.device)
    return [partial(compiled, x.q, x.k, x.v, block_mask=mask, enable_gqa=True) for x in sets]


# --- FlashInfer ------------------------------------------------------------------------------------------------------

def flashinfer_version() -> str | None:
    """Its version, or None where it is not installed."""
    if importlib.util.find_spec("flashinfer") is None:
        return None
    import flashinfer
    return flashinfer.__version__


def flashinfer(tensor_cores: bool, ordered: bool, cell: Attention, sets: Sequence[Inputs]) -> list[Call]:
    """Its batch decode, or for several queries its batch prefill, over blocks of 16; planned once, here. Its "fa2".

    tensor_cores: which of its two decode kernels. ordered: blocks that lie in order, its way to say "contiguous".
    """
    import flashinfer as peer
    device, first = sets[0].q.device, sets[0]
    tables = first.in_order if ordered else first.tables
    ends = torch.arange(cell.batch + 1, device=device, dtype=torch.int32)
    last = torch.full((cell.batch,), BLOCK, device=device, dtype=torch.int32)
    layout = (ends * tables.shape[1], tables.flatten(), last, cell.heads, cell.kv_heads, cell.head_size)
    workspace = torch.empty(WORKSPACE, dtype=torch.uint8, device=device)
    if cell.queries == 1:
        wrapper = peer.BatchDecodeWithPagedKVCacheWrapper(workspace, "NHD", use_tensor_cores=tensor_cores,
                                                          backend="fa2")
        wrapper.plan(*layout, BLOCK, q_data_type=DTYPE, kv_data_type=DTYPE)
    else:
        wrapper = peer.BatchPrefillWithPagedKVCacheWrapper(workspace, "NHD", backend="fa2")
        wrapper.plan(ends * cell.queries, *layout, BLOCK, causal=True, q_data_type=DTYPE, kv_data_type=DTYPE)
    queries = [x.q_tokens.view(-1, cell.heads, cell.head_size) for x in sets]                       # [B · m, H, D]
    return [partial(wrapper.run, q, x.ordered if ordered else x.paged) for q, x in zip(queries, sets, strict=True)]


def flashinfer_view(cell: Attention, out: Tensor) -> Tensor:
    return out.view(cell.batch, cell.queries, cell.heads, cell.head_size).transpose(1, 2)


# --- the fields ------------------------------------------------------------------------------------------------------

def decoders(cell: Attention) -> list[Contestant]:
    """Who decodes one token. FlashInfer has two kernels, for CUDA cores and for tensor cores: both run."""
    return [Contestant("flash_decoding", flash_decoding, one_query, ours=True),
            Contestant("paged_attention", paged_attention, tokens_first, ours=True, paged=True),
            Contestant(FLASH, partial(sdpa, SDPBackend.FLASH_ATTENTION)),
            Contestant(CUDNN, partial(sdpa, SDPBackend.CUDNN_ATTENTION)),
            Contestant(FLEX, flex), *_flashinfers(cell)]


def verifiers(cell: Attention) -> list[Contestant]:
    """Who verifies several tokens at once."""
    return [Contestant("paged_attention", paged_attention, tokens_first, ours=True, paged=True),
            Contestant(FLASH, partial(sdpa, SDPBackend.FLASH_ATTENTION)), *_flashinfers(cell, (False,))]


def prefillers(cell: Attention) -> list[Contestant]:
    """Who runs a whole prompt."""
    return [Contestant("flash_attention", flash_attention, ours=True),
            Contestant(FLASH, partial(sdpa, SDPBackend.FLASH_ATTENTION)),
            Contestant(CUDNN, partial(sdpa, SDPBackend.CUDNN_ATTENTION)), Contestant(FLEX, flex)]


def _flashinfers(cell: Attention, orders: Sequence[bool] = (True, False)) -> list[Contestant]:
    kinds = {"": True, ", CUDA cores": False} if cell.queries == 1 else {"": True}
    return [Contestant((FLASHINFER if ordered else FLASHINFER_PAGED) + kind, partial(flashinfer, cores, ordered),
                       partial(flashinfer_view, cell), paged=not ordered)
            for ordered in orders for kind, cores in kinds.items()]


# --- softmax and RMSNorm ---------------------------------------------------------------------------------------------

def composed_rms_norm(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    """RMSNorm as models write it: in float32, one operation after another."""
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(x.dtype) * weight


def row_kernels(weight: Tensor, eps: float = 1e-5) -> dict[str, dict[str, Callable[[Tensor], Tensor]]]:
    """operation -> contestant -> function of x. The first of each is ours; "eager" is PyTorch's own."""
    from minilm import kernels
    return {"softmax": {"softmax": lambda x: kernels.softmax(x), "eager": lambda x: torch.softmax(x, -1)},
            "rms_norm": {"rms_norm": lambda x: kernels.rms_norm(x, weight, eps),
                         "eager": lambda x: F.rms_norm(x, weight.shape, weight, eps),
                         "eager, composed": lambda x: composed_rms_norm(x, weight, eps)}}


def row_reference(operation: str, x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    """The operation in float64."""
    x = x.double()
    if operation == "softmax":
        return x.softmax(-1)
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight.double()
