"""How the next tokens are chosen: one function a technique, all with the same prompt in and `Generation` out."""
from minilm.decoding.autoregressive import autoregressive

__all__ = ["autoregressive"]
