"""Rows of many prompts over a base in half precision or in 8 bits say what stock PEFT says, one row at a time, in that format.

8 bits with float32 products is as exact as float32. Where products are half precision the order of sums moves the last bit of a
logit, so two tokens that are that near may change places: each token must be within two such bits of the most likely one, and
nearly all must be it.
"""

import pytest
import torch

from tests.int8_bases import dequantised, quantised
from tests.stock import Stock
from tests.unit.serving.test_exactness import TOKENS, assert_as_stock, assert_prompts_matter, base_of, mixed, prompts_of

LENGTHS = [("shallow", 5), ("deep", 9), ("shallow", 14)]
LEAST_SAME = 0.97


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3"])
def test_a_mixed_batch_over_8_bits_says_what_stock_peft_says(family):
    """Over the very same model, and over plain layers with torchao's own floats for its integers, in float64."""
    base = quantised(base_of(family))
    values = prompts_of(base, LENGTHS)
    asked = mixed(base, values, count=8)
    answers = assert_as_stock(dequantised(base), values, asked)
    assert_prompts_matter(base, values, answers)
    for which, ids, ear in asked:
        with torch.no_grad():
            logits = Stock(base, values[which], as_it_is=True).answer_logits(ids, ear.ids[:-1])
        assert ear.ids == logits.argmax(-1).tolist()


@pytest.mark.parametrize("family", ["llama", "qwen3"])
@pytest.mark.parametrize("numerics", ["bfloat16", "float16", "int8"])
def test_a_mixed_batch_in_half_precision_says_what_stock_peft_says_in_it(numerics, family):
    dtype = torch.float16 if numerics == "float16" else torch.bfloat16
    base = base_of(family, dtype)
    base = quantised(base) if numerics == "int8" else base
    values = prompts_of(base, LENGTHS)
    asked = mixed(base, values, count=8)
    stock, same = [Stock(base, value, as_it_is=True) for value in values], 0
    for which, ids, ear in asked:
        with torch.no_grad():
            logits = stock[which].answer_logits(ids, ear.ids[:-1])
        assert logits.dtype == dtype
        logits, chosen = logits.float(), torch.tensor(ear.ids)
        behind = logits.amax(-1) - logits.gather(1, chosen[:, None])[:, 0]
        assert (behind <= 2 * torch.finfo(dtype).eps * logits.abs().amax(-1)).all(), f"prompt {which}, text {ids}"
        same += int((behind == 0).sum())
    assert same >= LEAST_SAME * TOKENS * len(asked)
