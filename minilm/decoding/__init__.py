"""How the next tokens are chosen: one function a technique, all with the same prompt in and `Generation` out."""
from minilm.decoding.autoregressive import autoregressive
from minilm.decoding.calm import Decaying, ExitClassifier, ExitHead, Saturation, SoftmaxResponse, calibrate
from minilm.decoding.early_exit import Entropy, ExitPass, ExitPolicy, Patience, early_exit
from minilm.decoding.lookahead import JacobiPass, LookaheadPass, jacobi, lookahead
from minilm.decoding.proposers import (
    AheadHeads,
    Blockwise,
    DraftModel,
    PromptLookup,
    RecurrentDraft,
    RecurrentHead,
    SelfSpeculative,
    Trie,
    choose_tree,
)
from minilm.decoding.speculative import Draft, Proposer, SpeculativePass, speculative

__all__ = ["AheadHeads", "Blockwise", "Decaying", "Draft", "DraftModel", "Entropy", "ExitClassifier", "ExitHead",
           "ExitPass", "ExitPolicy", "JacobiPass", "LookaheadPass", "Patience", "PromptLookup", "Proposer",
           "RecurrentDraft", "RecurrentHead", "Saturation", "SelfSpeculative", "SoftmaxResponse", "SpeculativePass",
           "Trie", "autoregressive", "calibrate", "choose_tree", "early_exit", "jacobi", "lookahead", "speculative"]
