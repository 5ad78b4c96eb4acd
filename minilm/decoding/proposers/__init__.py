"""Where drafts come from: one file a proposer, all for the one loop in `decoding.speculative`."""
from minilm.decoding.proposers.blockwise import AheadHeads, Blockwise, choose_tree
from minilm.decoding.proposers.combined import Combined, SurvivalDraft
from minilm.decoding.proposers.draft_model import DraftModel
from minilm.decoding.proposers.prompt_lookup import PromptLookup
from minilm.decoding.proposers.recurrent import RecurrentDraft, RecurrentHead
from minilm.decoding.proposers.self_speculative import SelfSpeculative
from minilm.decoding.proposers.trie import Trie

__all__ = ["AheadHeads", "Blockwise", "Combined", "DraftModel", "PromptLookup", "RecurrentDraft", "RecurrentHead",
           "SelfSpeculative", "SurvivalDraft", "Trie", "choose_tree"]
