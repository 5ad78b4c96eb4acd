"""How the bundled checkpoints were made: prompts, corpus, tokenizer, pre-training, distillation, evaluation.

    python -m minilm.training --help

Each step reads and writes one folder, so that a run can stop between steps and go on later. No text of anyone's is
copied: the corpus is what SmolLM2-135M-Instruct answers to prompts made by `prompts.py`.
"""
