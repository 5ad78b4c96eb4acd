"""How many blocks a device's memory holds, and one clear error where it holds fewer than were asked for."""
import os

import torch

from minilm.model import GPT

SHARE = 0.9                     # of what is free after the weights and a pass: the rest is for libraries and fragments


def block_bytes(model: GPT, block_size: int) -> int:
    c = model.config
    return 2 * c.num_layers * c.num_kv_heads * c.head_size * block_size * model.dtype.itemsize


def pass_bytes(model: GPT, max_batch_tokens: int) -> int:
    """What one pass may hold beside the cache: a layer's numbers for every token, logits for every recorded row."""
    c = model.config
    token = 6 * c.width + 5 * c.mlp_width + 4 * (c.num_heads + 2 * c.num_kv_heads) * c.head_size
    return model.dtype.itemsize * (token * max_batch_tokens + 4 * 512 * c.vocab_size)


def blocks_that_fit(model: GPT, block_size: int, max_batch_tokens: int) -> int:
    """On a GPU: the blocks that a share of its free memory holds. Raises ValueError where that is none, or on a CPU."""
    if model.device.type != "cuda":
        raise ValueError(f"num_blocks is needed on a {model.device.type}: how many blocks of {block_size} tokens of "
                         "keys and values to hold for all requests together, such as num_blocks=512")
    free, _ = torch.cuda.mem_get_info(model.device)
    free += torch.cuda.memory_reserved(model.device) - torch.cuda.memory_allocated(model.device)
    needed, block = pass_bytes(model, max_batch_tokens), block_bytes(model, block_size)
    blocks = int(SHARE * (free - needed)) // block
    if blocks < 1:
        raise ValueError(f"not even one block fits: {_gib(free)} GiB of {model.device}'s memory are free, a pass of "
                         f"{max_batch_tokens:,} tokens takes about {_gib(needed)}, a block {block:,} bytes; use a "
                         "smaller max_batch_tokens, a smaller model, or free some memory")
    return blocks


def check_memory(model: GPT, num_blocks: int, block_size: int) -> None:
    """Raise ValueError for a pool larger than the device's memory: an allocator may say less, or end the process.

    On a GPU it is the memory that is free now; on a CPU all of it, since systems lend what others have.
    """
    block, memory = block_bytes(model, block_size), device_memory(model.device)
    if memory is not None and num_blocks * block > memory:
        kind = "free" if model.device.type == "cuda" else "in all"
        raise ValueError(f"{num_blocks:,} blocks of {block_size} tokens take {_gib(num_blocks * block)} GiB, and "
                         f"{model.device} has {_gib(memory)} {kind}: at most {memory // block:,} would fit")


def device_memory(device: torch.device) -> int | None:
    """Bytes of the device's memory, on a GPU those that are free; None where the system doesn't say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - (
            torch.cuda.memory_allocated(device))
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" not in names or "SC_PAGE_SIZE" not in names:
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _gib(size: float) -> str:
    return f"{size / 2**30:,.1f}"
