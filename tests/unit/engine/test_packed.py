"""Rows in one sequence give the loss and gradient of stock PEFT, and no row sees another."""

import sysconfig

import pytest
import torch
from torch.nn.attention.flex_attention import create_block_mask, create_mask

from softprompt.engine.batches import Collator
from softprompt.engine.packed import BLOCK_TOKENS, Packed, pack, sees_prompt_and_itself
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.shared_prefix import SharedPrefix
from softprompt.engine.strategy import choose_strategy
from tests.families import FAMILIES, tiny_base
from tests.unit.engine.test_parity import assert_same, deep, ours, rows, shallow, stock

# GPT-2 is exact in this layout, but transformers has no FlexAttention for it, so it is refused all the same.
EXACT = ["gpt2", "llama", "llama-tied", "mistral", "qwen2", "qwen3", "phi3", "opt", "gpt_neox"]


# FlexAttention differentiates on CUDA devices only: here the same sequence and mask run through SDPA with a dense mask.
@pytest.mark.parametrize("family", EXACT)
@pytest.mark.parametrize("kind", ["shallow", "deep"])
def test_packed_rows_equal_peft(family, kind):
    base = tiny_base(family)
    values = {"shallow": shallow, "deep": deep}[kind](base)
    assert_same(ours(Packed(base), values, rows()), stock(base, values, rows()))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_packed_rows_with_checkpointing_have_the_same_gradient(family):
    base = tiny_base(family)
    assert_same(
        ours(Packed(base, activation_checkpointing=True), shallow(base), rows()), ours(Packed(base), shallow(base), rows())
    )


@pytest.mark.parametrize("family", sorted({*FAMILIES} - {*EXACT} | {"gpt2"}))
def test_other_families_are_refused_by_name(family):
    base = tiny_base(family)
    expected = "encoder-decoder" if base.is_encoder_decoder else {"gpt2": "FlexAttention"}.get(family, "sliding window")
    assert expected in (Packed.refusal(base) or "")


@pytest.mark.parametrize("family", EXACT[1:])
def test_no_exact_family_is_refused(family):
    assert Packed.refusal(tiny_base(family)) is None


def test_processors_keep_the_padded_strategy():
    assert type(choose_strategy(tiny_base("llama"), "shallow")) is SharedPrefix


def test_a_sequence_is_filled_up_to_whole_blocks_that_belong_to_no_row():
    ids, row, offset = pack(Collator(None, None)(rows()))
    assert len(ids) == len(row) == len(offset) == BLOCK_TOKENS
    lengths = [len(example.input_ids) + len(example.answer_ids) - 1 for example in rows()]
    assert [int((row == number).sum()) for number in range(4)] == lengths
    assert offset[row == 1].tolist() == list(range(lengths[1]))
    assert int((row == -1).sum()) == BLOCK_TOKENS - sum(lengths)


def test_the_blocks_of_the_kernel_and_the_dense_mask_say_the_same():
    _, row, _ = pack(Collator(None, None)(rows(lengths=(90, 60, 9, 1))))
    sees, queries, keys = sees_prompt_and_itself(row, 12), len(row), 12 + len(row)
    dense = create_mask(sees, 1, 1, queries, keys, device="cpu")
    blocks = create_block_mask(sees, None, None, queries, keys, device="cpu")
    inside = torch.nn.functional.max_pool2d(dense.float(), BLOCK_TOKENS, ceil_mode=True)
    assert torch.equal(blocks.to_dense().bool(), inside.bool())
    assert dense[0, 0, 5].nonzero().flatten().tolist() == list(range(12 + 5 + 1))


def test_flex_attention_gives_the_hidden_states_of_the_dense_mask(monkeypatch):
    base = tiny_base("llama")
    batch, strategy = Collator(None, None)(rows()), Packed(base)
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        prefix = strategy.prefix(SoftPrompt(shallow(base)))
        expected = strategy.hidden(prefix, batch)
        monkeypatch.setattr(Packed, "_kernel", "flex_attention")
        actual = strategy.hidden(prefix, batch)
    assert base.model.config._attn_implementation == "sdpa"
    assert (actual - expected).norm() / expected.norm() < 1e-5


@pytest.mark.parametrize("tools", [(), ("Python.h",), ("gcc",), ("Python.h", "cc"), ("Python.h", "gcc"), ("Python.h", "clang")])
def test_without_build_tools_a_cuda_device_computes_with_padding(tmp_path, monkeypatch, tools):
    for name in tools:
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    base = tiny_base("llama")
    assert choose_strategy(base, "shallow").name == "shared_prefix"
    monkeypatch.setattr(type(base.model), "device", torch.device("cuda"))
    assert choose_strategy(base, "shallow").name == ("packed" if tools[1:] in (("gcc",), ("clang",)) else "shared_prefix")
    monkeypatch.setenv("CC", "cc")
    assert choose_strategy(base, "shallow").name == ("packed" if tools[1:] == ("cc",) else "shared_prefix")


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_flex_attention_has_the_gradient_of_the_shared_prefix(dtype):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    base = tiny_base("llama", dtype)
    base.model.cuda()
    examples, values = rows(lengths=(40, 20, 9, 1)), shallow(base).cuda()
    assert isinstance(choose_strategy(base, "shallow"), Packed)
    results = []
    for strategy in (Packed(base), SharedPrefix(base)):
        prompt = SoftPrompt(values).cuda()
        batch = Collator(None, None, "cuda")(examples)
        hidden = strategy.hidden(strategy.prefix(prompt), batch)
        (hidden.float() @ torch.linspace(-1, 1, hidden.shape[1], device="cuda")).sum().backward()
        results.append(prompt.values.grad)
    packed, padded = results
    assert (packed - padded).norm() / padded.norm() < (1e-5 if dtype == torch.float32 else 3e-2)
