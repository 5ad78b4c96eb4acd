"""How the next tokens are chosen: one function a technique, all with the same prompt in and `Generation` out."""
from minilm.decoding.autoregressive import autoregressive
from minilm.decoding.calm import Decaying, ExitClassifier, ExitHead, Saturation, SoftmaxResponse, calibrate
from minilm.decoding.early_exit import Entropy, ExitPass, ExitPolicy, Patience, early_exit

__all__ = ["Decaying", "Entropy", "ExitClassifier", "ExitHead", "ExitPass", "ExitPolicy", "Patience", "Saturation",
           "SoftmaxResponse", "autoregressive", "calibrate", "early_exit"]
