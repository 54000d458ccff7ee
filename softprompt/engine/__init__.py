"""The engine: prompts as modules, forward strategies, the answers' trie, templates. What training, evaluation and serving share.

prompts.py        the learned vectors as a torch module
encoding.py       rows -> token ids
answers.py        the trie over a closed set of answers, and likelihood under it
batches.py        token ids -> padded tensors that say which positions are scored
head.py           hidden states -> logits, for the tokens that are needed only
strategy.py       what a forward strategy is, and which one a base model gets
shared_prefix.py  causal models: the prompt's keys and values once per step
packed.py         the same on CUDA devices, rows in one sequence without padding
layers.py         what of the layers a step computes, and what twice
decoder_prefix.py encoder-decoder models: a deep prompt's keys and values in front of what the decoder says
concatenate.py    the rest: the prompt's vectors in front of the input embeddings
sampling.py       which token comes next: the most likely one, or a draw of the row's own
scoring.py        probabilities of the answers; generation; the likelihood of a given text
predictor.py      rows -> answers, with one prompt or the bare base
"""
