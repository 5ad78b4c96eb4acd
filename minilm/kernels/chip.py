"""What a launch asks of the device it is for."""
import torch


def can_overlap(device: torch.device) -> bool:
    """Can a kernel be launched while the one before it ends (programmatic dependent launch)? NVIDIA, from Hopper on."""
    return device.type == "cuda" and torch.version.hip is None and torch.cuda.get_device_capability(device) >= (9, 0)


def shared_memory(device: torch.device) -> int:
    """Bytes of shared memory that a program may have: 227 KB on an H100, 99 KB on a GeForce, 64 KB on AMD."""
    return getattr(torch.cuda.get_device_properties(device), "shared_memory_per_block_optin", 2**16)


def processors(device: torch.device) -> int:
    """Multiprocessors of the GPU; for the interpreter, those of an H100."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 132
