"""Small real things for tests: base models in the hub's layout, datasets, recipes, prompt files."""

import json
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from softprompt.artifact import Answer, PromptFile, TemplateExample

TEXTS = ["Where is my parcel? It should have come on Monday.", "Please cancel the invoice, I paid twice.", "Message: Answer:"]
COLOURS = {"red": ["ruby", "cherry", "tomato"], "blue": ["sky", "sea", "sapphire"], "green": ["grass", "leaf", "emerald"]}

RECIPE = """\
schema_version: 1
name: colours
channel: laptop
base_model: {{uri: "{base}"}}
dataset:
  uri: "{dataset}"
  target_column: colour
  limits: {{similarity: 1.0}}  # "ruby number 1" and "ruby number 10" are two rows here
task:
  type: classification
  template: "Thing: {{text}}\\nColour:"
prompt: {{kind: {kind}, num_tokens: 4}}
training: {{steps: 6, batch_size: 8, warmup_steps: 1, validate_every_steps: 3}}
evaluation: {{bootstrap_samples: 200}}
gates:
  - {{metric: accuracy, at_least: {floor}}}
"""


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE of about 300 tokens that adds a beginning token, as Llama's does."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        TEXTS * 20, trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet)
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def save_llama(directory: Path, *, seed: int = 0, shards: str = "1GB", **options: object) -> Path:
    """A random Llama of two layers with a tokenizer, as a hub directory."""
    torch.manual_seed(seed)
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
    }
    config = LlamaConfig(vocab_size=320, bos_token_id=1, eos_token_id=2, **(sizes | options))
    model = LlamaForCausalLM(config)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:  # wide weights: a random model whose answers a prompt can change
            torch.nn.init.normal_(parameter, std=0.5 if "embed" in name else 0.25)
    model.save_pretrained(directory, max_shard_size=shards)
    tiny_tokenizer().save_pretrained(directory)
    return directory


def save_t5(directory: Path) -> Path:
    """A random T5 of two layers, as a hub directory."""
    torch.manual_seed(0)
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
    T5ForConditionalGeneration(
        T5Config(vocab_size=320, decoder_start_token_id=0, pad_token_id=0, eos_token_id=2, **sizes)
    ).save_pretrained(directory)
    tiny_tokenizer().save_pretrained(directory)
    return directory


def colour_rows(num_rows: int = 150) -> list[dict[str, str]]:
    """Rows that a prompt can learn: a thing and its colour."""
    pairs = [(thing, colour) for colour, things in COLOURS.items() for thing in things]
    return [{"text": f"{pairs[i % 9][0]} number {i}", "colour": pairs[i % 9][1]} for i in range(num_rows)]


def write_jsonl(path: Path, rows: list[dict[str, object]] | list[dict[str, str]]) -> Path:
    """Rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_recipe(path: Path, base: Path | str, dataset: Path | str, *, kind: str = "shallow", floor: float = 0.01) -> Path:
    """The colours recipe."""
    path.write_text(RECIPE.format(base=base, dataset=dataset, kind=kind, floor=floor))
    return path


def prompt_file(
    *,
    fingerprint: str = "0" * 64,
    deep: bool = False,
    seed: int = 0,
    dtype: str = "float32",
    num_tokens: int = 4,
    width: int = 8,
    head_size: int = 4,
) -> PromptFile:
    """A small prompt file of random numbers."""
    shape = (2, 2, num_tokens, 2, head_size) if deep else (num_tokens, width)
    values = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return PromptFile.build(
        values,
        dtype=dtype,  # type: ignore[arg-type]
        task="classification",
        template="Thing: {text}\nColour:",
        template_examples=(TemplateExample(values={"text": "a"}, token_ids=(1, 2)),),
        answers=(Answer(label="red", text=" red"), Answer(label="blue", text=" blue")),
        max_new_tokens=8,
        base_fingerprint=fingerprint,
    )
