"""Whether rows in slots are exact for a base: what its config says, then what the model itself gives."""

import torch
from torch import Tensor
from transformers import DynamicCache

from softprompt.base_model import FrozenBase
from softprompt.engine.head import PROBE_TOLERANCE
from softprompt.engine.shared_prefix import SharedPrefix
from softprompt.errors import UnsupportedBaseModel
from softprompt.serving.slot_cache import Where
from softprompt.serving.slot_runner import SlotRunner


def exact_runner(base: FrozenBase) -> SlotRunner:
    """A runner whose rows give what each gives alone.

    Raises:
        UnsupportedBaseModel: They would not, for this base.
    """
    if reason := structural_refusal(base):
        raise _refused(base, reason)
    try:
        runner = SlotRunner(base)
        difference = ragged_difference(runner)
        deaf = deaf_kinds(runner)
    except Exception as error:  # noqa: BLE001  # an unknown architecture may object in any way
        raise _refused(base, f"{type(error).__name__}: {error}") from None
    if not difference <= PROBE_TOLERANCE.get(base.model.dtype, 1e-4):
        raise _refused(base, f"ragged rows that differ from rows alone by {difference:.1e}")
    if deaf:
        raise _refused(base, f"layers of kind {', '.join(deaf)} that look at no mask of their own")
    runner.resize(0, 0, 0)
    return runner


def structural_refusal(base: FrozenBase) -> str | None:
    """Why rows in slots would not be exact, or None, as far as the config says."""
    if base.is_encoder_decoder:
        return "an encoder-decoder model"
    if reason := SharedPrefix.refusal(base):
        return reason
    config = base.model.config.get_text_config(decoder=True)
    if len({getattr(layer, "sliding_window", None) for layer in DynamicCache(config=config).layers} - {None}) > 1:
        return "sliding windows of several sizes"
    if unknown := set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}:
        return f"layers of kind {', '.join(sorted(unknown))}"
    if base.model.config._attn_implementation not in ("sdpa", "eager"):
        return f"attention by {base.model.config._attn_implementation}, which takes no mask of ours"
    return None


@torch.inference_mode()
def ragged_difference(runner: SlotRunner) -> float:
    """How far two rows of different lengths are from the same rows alone, relative, as they are read and one token later."""
    texts = [[token % runner.base.vocabulary_size for token in text] for text in ([1, 2, 3], [4, 5, 6, 7, 8])]
    runner.resize(2, 8, 0)
    actual = [runner.read(0, texts, [0, 0])]
    expected = [runner.alone(text, DynamicCache()) for text in texts]
    longer = [[*text, text[0]] for text in texts]
    actual.append(runner.read(0, [text[-1:] for text in longer], [len(text) for text in texts]))
    expected += [runner.alone(text, DynamicCache()) for text in longer]
    truth: Tensor = torch.stack(expected).float()
    return float((torch.cat(actual).float() - truth).norm() / truth.norm().clamp_min(1e-12))


@torch.inference_mode()
def deaf_kinds(runner: SlotRunner) -> list[str]:
    """Kinds of layers, where a base has several, for which a narrower window of their own changes nothing."""
    if len(runner.windows) == 1:
        return []
    ids = torch.arange(5, device=runner.base.model.device)[None] % runner.base.vocabulary_size
    where = Where(0, 1, 5, torch.zeros_like(ids[0]), torch.arange(5, device=ids.device), None)
    wide = dict.fromkeys(runner.windows)
    given = {kind: runner.run(ids, where.places[None], where, wide | {kind: 1}) for kind in runner.windows}
    expected = runner.run(ids, where.places[None], where, wide)
    return [kind for kind, hidden in given.items() if torch.equal(hidden, expected)]


def _refused(base: FrozenBase, reason: str) -> UnsupportedBaseModel:
    return UnsupportedBaseModel(
        f"Rows of {base.model.config.model_type} cannot share a batch that rows join and leave.",
        expected="what each row gives alone",
        actual=reason,
    )
