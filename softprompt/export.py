"""A prompt file in the formats of other servers, each as its stock reader wants it.

    peft   `adapter_model.safetensors` and `adapter_config.json`, as PEFT's own save_pretrained leaves them
    tgis   `decoder.pt`, for IBM's text-generation-inference: one matrix, a pickle, since that is what its prompt cache reads
    vllm   `prompt_embeds.safetensors` and `prompt_embeds.json`: the rows, and how a client puts them before what it embeds

All three carry vectors and nothing of what makes a task: no format has a place for template and labels, so whoever serves the
export has to bring them (`prompt_embeds.json` repeats them for that). What a format cannot carry is refused by name.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from softprompt.artifact import PEFT_CONFIG_FILE, TENSOR_FILE, TENSOR_NAME, PromptFile, peft_config
from softprompt.base_model import checked_fingerprint, load_text_side
from softprompt.errors import InvalidRequest
from softprompt.fetch import fetch_base
from softprompt.fetch.cache import draft_beside

ExportFormat = Literal["peft", "tgis", "vllm"]

TGIS_DECODER_FILE = "decoder.pt"
TGIS_ENCODER_FILE = "encoder.pt"
TGIS_ID = re.compile(r"[\w-]+")
"""What the last part of a prefix id may be made of."""
VLLM_TENSOR_FILE = "prompt_embeds.safetensors"
VLLM_GUIDE_FILE = "prompt_embeds.json"
VLLM_STEPS = (
    "Fill `template` with the input's values.",
    "Tokenise that with the base's tokenizer, special tokens included; leave out an end token that it puts last.",
    "Embed the ids by calling the base's embedding module, model.get_input_embeddings()(ids): some scale inside it.",
    "Put the tensor's rows before them, [P + T, H], and convert all of it to the model's number format.",
    "Send that as prompt_embeds to a vLLM started with --enable-prompt-embeds: it takes whole sequences, never a prefix.",
    "Gemma and Gemma 2 need a vLLM with its pull request 36787 of March 2026: earlier ones scale embeddings a second time.",
)
"""What a client does with the rows; the tests follow them with a stock transformers model."""


@dataclass(frozen=True)
class ExportedBase:
    """What an export says of the base model.

    Attributes:
        uri: Where it lies; information only.
        is_encoder_decoder: Whether it is one.
    """

    uri: str
    is_encoder_decoder: bool

    @classmethod
    def of(cls, uri: str, file: PromptFile) -> "ExportedBase":
        """The base model at a URI, known to be the one that a prompt was trained on; its weights are not loaded.

        Raises:
            BaseModelUnavailable: There is none.
            FingerprintMismatch: It is another.
        """
        directory = fetch_base(uri)
        checked_fingerprint(directory, file.manifest.base_fingerprint)
        return cls(uri, load_text_side(directory).is_encoder_decoder)


def export_prompt(file: PromptFile, export_format: ExportFormat, out: Path, base: ExportedBase) -> list[Path]:
    """Write a prompt in another format, complete or not at all.

    Args:
        file: The prompt.
        export_format: Which format.
        out: Directory to write; must not exist, or be empty.
        base: The base that the prompt was trained on.

    Returns:
        The files that were written.

    Raises:
        InvalidRequest: The format cannot carry such a prompt.
    """
    write = {"peft": _write_peft, "tgis": _write_tgis, "vllm": _write_vllm}[export_format]
    with draft_beside(out) as draft:
        write(file, draft, out.name, base)
        draft.rename(out)
    return sorted(out.iterdir())


def _write_peft(file: PromptFile, folder: Path, name: str, base: ExportedBase) -> None:
    (folder / TENSOR_FILE).write_bytes(file.tensor)
    uri, revision = _for_the_hub(base.uri)
    config = peft_config(file.manifest, base_uri=uri, base_revision=revision, encoder_decoder=base.is_encoder_decoder)
    _write_json(folder / PEFT_CONFIG_FILE, config)


def _for_the_hub(uri: str) -> tuple[str, str]:
    """(name or path, revision) of a base as transformers understands them."""
    scheme, _, place = uri.partition("://")
    if scheme == "hf":
        name, _, revision = place.partition("@")
        return name, revision
    return (str(fetch_base(uri)) if scheme == "file" else uri), ""


def _write_tgis(file: PromptFile, folder: Path, name: str, base: ExportedBase) -> None:
    """`<PREFIX_STORE_PATH>/<prefix id>/decoder.pt`; of an encoder-decoder model `encoder.pt`, since our prompts stand there."""
    _refuse_deep(file, "tgis", "decoder.pt holds rows of the input embeddings")
    if not TGIS_ID.fullmatch(name):
        raise InvalidRequest(
            "TGIS takes the folder's name as the prefix id, and does not take this one.",
            where=f"--out {name}",
            expected="letters, digits, _ and -",
        )
    if base.is_encoder_decoder and file.manifest.num_tokens % 2:
        raise InvalidRequest(
            "TGIS takes prompts of encoder-decoder models of even length only.",
            where=f"prompt {file.digest[:12]}",
            expected="an even number of prompt tokens",
            actual=str(file.manifest.num_tokens),
            hint="Tune it with one token more, or serve it with `softprompt serve` or PEFT.",
        )
    import torch

    torch.save(torch.from_numpy(file.values), folder / (TGIS_ENCODER_FILE if base.is_encoder_decoder else TGIS_DECODER_FILE))


def _write_vllm(file: PromptFile, folder: Path, name: str, base: ExportedBase) -> None:
    _refuse_deep(file, "vllm", "prompt_embeds are rows of the input embeddings, and vLLM takes no keys and values from a client")
    if base.is_encoder_decoder:
        raise InvalidRequest(
            "vLLM takes prompt_embeds for decoder-only models.",
            where=f"prompt {file.digest[:12]}",
            actual=f"an encoder-decoder model, {base.uri}",
            hint="Serve it with `softprompt serve`, or export it with --format peft or tgis.",
        )
    (folder / VLLM_TENSOR_FILE).write_bytes(file.tensor)
    _write_json(folder / VLLM_GUIDE_FILE, _vllm_guide(file, base))


def _vllm_guide(file: PromptFile, base: ExportedBase) -> dict[str, object]:
    """How a client makes `prompt_embeds` of the rows; vLLM itself reads neither file."""
    manifest = file.manifest
    part = manifest.parts[0]
    return {
        "schema_version": 1,
        "format": "softprompt-vllm-prompt-embeds",
        "prompt": file.digest,
        "base": {"uri": base.uri, "fingerprint": manifest.base_fingerprint},
        "tensor": {
            "file": VLLM_TENSOR_FILE,
            "name": TENSOR_NAME,
            "shape": list(part.shape),
            "dtype": part.dtype,
            "sha256": part.sha256,
        },
        "steps": VLLM_STEPS,
        "template": manifest.template,
        "template_examples": [example.model_dump(mode="json") for example in manifest.template_examples],
        "task": manifest.task,
        "answers": [answer.model_dump(mode="json") for answer in manifest.answers],
        "max_new_tokens": manifest.max_new_tokens,
    }


def _refuse_deep(file: PromptFile, export_format: str, reason: str) -> None:
    layout = file.manifest.layout
    if layout is not None:
        raise InvalidRequest(
            f"The format {export_format} cannot carry a deep prompt: {reason}.",
            where=f"prompt {file.digest[:12]}",
            expected="a shallow prompt",
            actual=f"a deep prompt, keys and values of {layout.num_layers} layers",
            hint="Serve it with `softprompt serve`, export it with --format peft, or tune one with prompt.kind: shallow.",
        )


def _write_json(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
