"""Conversations: what is trained on is what the base's own chat template would have written, answer for answer."""

import pytest

from softprompt.base_model import load_text_side
from softprompt.data.dataset import read_part
from softprompt.data.rows import PARTS
from softprompt.data.validate import validate_dataset
from softprompt.engine.task import EncodedTask
from softprompt.errors import InvalidRecipe
from softprompt.resolve import resolve_recipe
from tests.builders import save_llama, tiny_tokenizer, write_jsonl

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m.role }}:\n{{ m.content }}{{ eos_token if m.role == 'assistant' }}{% endfor %}"
    "{% if add_generation_prompt %}assistant:\n{% endif %}"
)
RECIPE = """\
schema_version: 1
name: chat
channel: laptop
base_model: {{uri: "{base}"}}
dataset: {{uri: "{rows}", messages_column: messages, split: {{validation: 0.3, test: 0.3}}}}
task: {{type: generation, template: "{{messages}}"}}
prompt: {{num_tokens: 4}}
gates: [{{metric: rouge_l, at_least: 0.1}}]
"""


def conversation(number: int) -> dict[str, object]:
    said = [("user", f"hi {number}"), ("assistant", f"hello {number}"), ("user", "bye"), ("assistant", f"ciao {number * 7}")]
    return {"messages": [{"role": role, "content": content} for role, content in said]}


@pytest.fixture(scope="module")
def chat_base(tmp_path_factory):
    folder = save_llama(tmp_path_factory.mktemp("chat"))
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def recipe(tmp_path, chat_base):
    rows = write_jsonl(tmp_path / "rows.jsonl", [conversation(number) for number in range(60)])
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.format(base=chat_base, rows=rows))
    return path


def test_the_loss_is_on_the_assistants_turns_of_the_chat_template_s_text(tmp_path, chat_base, recipe):
    validate_dataset(resolve_recipe(str(recipe)), tmp_path / "dataset", tmp_path / "report.html")
    side = load_text_side(chat_base)
    rows = [row for part in PARTS for row in read_part(tmp_path / "dataset", part)]
    assert len(rows) == 120
    examples = EncodedTask.create(side, "{messages}", ()).examples([(row.inputs, row.target) for row in rows])
    trained = {tuple(example.input_ids + example.answer_ids) for example in examples}
    for number in range(60):
        messages = conversation(number)["messages"]
        for turns in (2, 4):
            text = side.tokenizer.apply_chat_template(messages[:turns], tokenize=False)
            assert tuple(side.tokenizer(text, add_special_tokens=False)["input_ids"]) in trained


def test_a_conversation_stays_in_one_part(tmp_path, recipe):
    validate_dataset(resolve_recipe(str(recipe)), tmp_path / "dataset", tmp_path / "report.html")
    parts = {part: {row.group for row in read_part(tmp_path / "dataset", part)} for part in PARTS}
    assert all(parts.values())
    assert sum(map(len, parts.values())) == 60


def test_a_base_without_a_chat_template_is_refused(tmp_path, llama_directory, recipe, chat_base):
    recipe.write_text(recipe.read_text().replace(str(chat_base), str(llama_directory)))
    with pytest.raises(InvalidRecipe, match="no chat template"):
        validate_dataset(resolve_recipe(str(recipe)), tmp_path / "dataset", tmp_path / "report.html")
