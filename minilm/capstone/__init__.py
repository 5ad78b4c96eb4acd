"""The capstone: write your own decoder, and race it against the package's under a bound on what its output may lose.

The file that you write defines one of three functions, each given the model:

    def decode(model, prompt, max_new_tokens):      # -> max_new_tokens token ids, or a Generation
    def policy(model):                              # -> an exit policy, for minilm.decoding.early_exit
    def proposer(model):                            # -> a proposer, for minilm.decoding.speculative

and `minilm race --mine my_decoder.py` runs it, greedy, on prompts that nobody has seen before. The rules:

- The output counts as right where every token is the full model's own choice after the text so far. Otherwise it loses
  1 - ROUGE-L, and the mean loss over all prompts may not pass `--quality` (0 unless you say otherwise: no loss at all).
- The model that you are given does the work: its first layer has to see every token but the last one. Its weights stay
  as they are, one processor thread is all that anyone has, and every request starts from nothing.
- Each runner works in a process of its own; time is taken outside of it, from a request to its answer.

- The file is all there is: it can import packages, but nothing beside it, and it can't write files or start processes.

`EXITS = [4, 8]` beside `policy` says after which layers it is asked. What the file prints is not shown.
"""
