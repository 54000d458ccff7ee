"""The bank keeps what it may, loads each prompt once, and never drops what is pinned."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from softprompt.artifact import TemplateExample
from softprompt.base_model import load_base_model
from softprompt.errors import FingerprintMismatch, InvalidRequest, StoreUnavailable, VerificationFailed
from softprompt.serving.bank import PromptBank
from softprompt.serving.follower import Follower
from tests.builders import prompt_file


class Shelf:
    """A generation that serves some prompts and counts how often each is read."""

    generation = 7

    def __init__(self, prompts):
        self.prompts = {prompt.digest: prompt for prompt in prompts}
        self.loads = []

    def load(self, digest):
        self.loads.append(digest)
        return self.prompts[digest]


@pytest.fixture(scope="module")
def base(llama_directory):
    return load_base_model(llama_directory)


def prompts(base, count, **options):
    made = [prompt_file(fingerprint=base.fingerprint, seed=seed, width=32, **options) for seed in range(count)]
    return [plain(base, prompt) for prompt in made]


def plain(base, prompt, examples=()):
    """Without examples, which this base's tokenizer would read otherwise."""
    fields = {name: getattr(prompt.manifest, name) for name in ("task", "template", "answers", "max_new_tokens")}
    fields |= {"template_examples": examples, "base_fingerprint": prompt.manifest.base_fingerprint}
    return type(prompt).build(prompt.values, dtype=prompt.manifest.parts[0].dtype, **fields)


def one_size(base):
    (prompt,) = prompts(base, 1)
    return PromptBank(base).get(prompt.digest, Shelf([prompt])).num_bytes


def test_a_prompt_is_loaded_once_and_the_least_recently_used_is_dropped(base):
    shelf = Shelf(prompts(base, 3))
    first, second, third = shelf.prompts
    bank = PromptBank(base, max_bytes=2 * one_size(base))
    for digest in (first, first, second, first, third, first, second):
        assert bank.get(digest, shelf).digest == digest
        assert bank.numbers.num_bytes <= bank.numbers.max_bytes
    assert shelf.loads == [first, second, third, second]
    numbers = bank.numbers
    assert (numbers.num_prompts, numbers.num_hits, numbers.num_loads, numbers.num_evictions) == (2, 3, 4, 2)
    assert bank.get_if_warm(third) is None
    assert bank.get_if_warm(first).digest == first


def test_requests_for_one_prompt_wait_for_one_load_and_other_prompts_load_meanwhile(base):
    shelf = Shelf(prompts(base, 2))
    slow, quick = shelf.prompts
    bank, may_go, began, real = PromptBank(base), threading.Event(), threading.Event(), shelf.load

    def load(digest):
        if digest == slow:
            began.set()
            assert may_go.wait(30)
        return real(digest)

    shelf.load = load
    with ThreadPoolExecutor(9) as pool:
        waiting = [pool.submit(bank.get, slow, shelf) for _ in range(8)]
        assert began.wait(30)
        assert bank.get(quick, shelf).digest == quick, "another prompt does not wait"
        may_go.set()
        found = {id(future.result(30)) for future in waiting}
    assert len(found) == 1
    assert sorted(shelf.loads) == sorted([slow, quick])


def test_a_load_that_failed_tells_everybody_who_waited_and_is_tried_again(base):
    (prompt,) = prompts(base, 1)
    shelf, may_fail, began = Shelf([prompt]), threading.Event(), threading.Event()
    bank, real = PromptBank(base), shelf.load

    def fail(digest):
        began.set()
        assert may_fail.wait(30)
        raise StoreUnavailable("S3 is away.")

    shelf.load = fail
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(bank.get, prompt.digest, shelf) for _ in range(4)]
        assert began.wait(30)
        while bank.numbers.num_hits < 3:
            threading.Event().wait(0.01)
        may_fail.set()
        for future in waiting:
            with pytest.raises(StoreUnavailable):
                future.result(30)
    shelf.load = real
    assert bank.get(prompt.digest, shelf).digest == prompt.digest
    assert (bank.numbers.num_failed_loads, bank.numbers.num_loads) == (1, 2)


def test_pinned_prompts_are_never_dropped(base):
    shelf = Shelf(prompts(base, 4))
    digests = list(shelf.prompts)
    bank = PromptBank(base, max_bytes=2 * one_size(base))
    bank.pin(digests[:1], shelf)
    for digest in digests[1:] * 3:
        bank.get(digest, shelf)
        assert bank.numbers.num_bytes <= bank.numbers.max_bytes
    assert shelf.loads.count(digests[0]) == 1
    bank.pin(digests[2:], shelf)
    assert bank.get_if_warm(digests[0]) is None, "what is pinned no longer gives way to what is"
    assert bank.get(digests[1], shelf).digest == digests[1], "no room beside the pinned: answered, not kept"
    assert bank.get_if_warm(digests[1]) is None
    assert bank.numbers.num_pinned == 2


def test_more_pinned_than_fits_is_refused_and_changes_nothing(base):
    shelf = Shelf(prompts(base, 3))
    digests, size = list(shelf.prompts), one_size(base)
    bank = PromptBank(base, max_bytes=2 * size)
    bank.pin(digests[:1], shelf)
    with pytest.raises(InvalidRequest, match="pins more prompts than this node may keep") as caught:
        bank.pin(digests, shelf)
    assert f"<= {2 * size} bytes" in str(caught.value)
    assert bank.numbers.num_pinned == 1
    assert bank.get_if_warm(digests[0])


def test_a_prompt_that_was_dropped_still_answers_rows_in_flight(base):
    shelf = Shelf(prompts(base, 2))
    first, second = shelf.prompts
    bank = PromptBank(base, max_bytes=one_size(base))
    held = bank.get(first, shelf)
    before = held.predictor.predict([{"text": "ruby"}])
    bank.get(second, shelf)
    assert bank.get_if_warm(first) is None
    assert held.predictor.predict([{"text": "ruby"}]) == before


def test_a_template_that_tokenises_otherwise_here_is_refused(base):
    wrong = plain(base, prompts(base, 1)[0], (TemplateExample(values={"text": "a"}, token_ids=(5, 6)),))
    with pytest.raises(VerificationFailed, match="tokenises"):
        PromptBank(base).get(wrong.digest, Shelf([wrong]))


def test_a_prompt_of_another_base_is_refused(base):
    other = prompt_file(width=32)
    with pytest.raises(FingerprintMismatch):
        PromptBank(base).get(other.digest, Shelf([other]))


def test_a_deep_bfloat16_prompt_keeps_its_bits_on_a_bfloat16_base(llama_directory):
    base = load_base_model(llama_directory, dtype="bfloat16")
    (prompt,) = prompts(base, 1, deep=True, head_size=8, dtype="bfloat16")
    warm = PromptBank(base).get(prompt.digest, Shelf([prompt]))
    stored = torch.from_numpy(prompt.values)
    assert warm.num_bytes == stored.numel() * 2
    for layer, (keys, values) in enumerate(warm.predictor.prefix.layers):
        assert keys.dtype == torch.bfloat16
        assert torch.equal(keys[0].transpose(0, 1).float(), stored[layer, 0])
        assert torch.equal(values[0].transpose(0, 1).float(), stored[layer, 1])


@pytest.mark.parametrize("deep", [False, True])
def test_keys_and_values_lie_in_one_piece_of_memory_and_nothing_else_is_kept(base, deep):
    made = prompt_file(fingerprint=base.fingerprint, deep=deep, width=32, head_size=8)
    prompt = plain(base, made)
    warm = PromptBank(base).get(prompt.digest, Shelf([prompt]))
    pieces = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in warm.predictor.prefix.tensors}
    assert sum(pieces.values()) == warm.num_bytes
    assert len(pieces) == 1


def test_a_real_generation_is_a_shelf(channel):
    """The same over a real channel: its snapshot refuses what the generation does not name."""
    prompt = channel.prompt(seed=1)
    channel.publish("colours", prompt)
    snapshot = Follower(channel.reader(), channel.base.fingerprint).snapshot
    bank = PromptBank(channel.base)
    assert bank.get(prompt.digest, snapshot).manifest == prompt.manifest
    with pytest.raises(InvalidRequest, match="does not serve"):
        bank.get("0" * 64, snapshot)
