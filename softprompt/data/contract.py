"""What a dataset specification promises: a record of a file becomes a row, or a fault in words.

The row model is made from the specification with pydantic: one field for each column that is used, text in all of them.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model
from pydantic_core import PydanticCustomError

from softprompt.data.reading.records import Record
from softprompt.data.rows import Part, Row
from softprompt.data.text.characters import whitespace_only
from softprompt.engine.conversation import RenderChat
from softprompt.recipe.dataset import DatasetSpec

PART_NAMES: dict[str, Part] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}
"""What a split column may say, in any case."""
MOST_COLUMNS_NAMED = 12
CONVERSATION = "messages"
"""The template field that a rendered conversation fills."""

ABSENT: dict[str, Any] = {"id": "", "part": "train", "group": "", "must_pass": False, "target": "", "messages": []}
"""What a row has where no column is named for it."""


class RowFault(Exception):
    """A record cannot be used; says why."""


class Message(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(extra="ignore", strict=True)
    role: str = Field(min_length=1)
    content: str


class Contract:
    """Turns records into rows.

    Args:
        spec: What the columns mean.
        input_columns: Columns that the template names.
        render_chat: The base's chat template; needed for conversations only.
    """

    def __init__(self, spec: DatasetSpec, input_columns: tuple[str, ...], render_chat: RenderChat | None = None) -> None:
        self.spec = spec
        self._render_chat = render_chat
        self.input_columns = input_columns
        self._inputs = () if spec.messages_column else input_columns
        self._model = _row_model(spec, self._inputs)

    def rows(self, record: Record) -> Iterator[Row]:
        """The row of a record; of a conversation, one for each answer of the assistant.

        Raises:
            RowFault: It cannot be used.
        """
        if record.cells is None:
            raise RowFault(record.fault)
        try:
            cells = ABSENT | self._model.model_validate(record.cells).__dict__
        except ValidationError as error:
            raise RowFault(_sentence(error, record.cells)) from None
        if self.spec.messages_column:
            yield from self._turns(record, cells)
        else:
            inputs = {column: cells[f"input{number}"] for number, column in enumerate(self._inputs)}
            yield self._row(record, cells, inputs, cells["target"])

    def _row(self, record: Record, cells: Mapping[str, Any], inputs: dict[str, str], target: str, turn: str = "") -> Row:
        name = cells["id"] or f"{record.file}:{record.line}"
        return Row(
            id=name + turn,
            line=record.line,
            inputs=inputs,
            target=target,
            subgroups={column: cells[f"subgroup{number}"] for number, column in enumerate(self.spec.subgroup_columns)},
            part=cells["part"],
            group=cells["group"] or (name if turn else ""),
            must_pass=cells["must_pass"],
            file=record.file,
        )

    def _turns(self, record: Record, cells: Mapping[str, Any]) -> Iterator[Row]:
        """Loss on the assistant's turns is the sum of the losses of each turn after everything said before it."""
        assert self._render_chat is not None, "a contract with conversations is made with a chat template"
        messages = [message.model_dump() for message in cells["messages"]]
        answers = [place for place, message in enumerate(messages) if message["role"] == "assistant" and place]
        if not answers:
            raise RowFault("the conversation has no answer of an assistant")
        for place in answers:
            if whitespace_only(messages[place]["content"]):
                raise RowFault(f"message {place + 1} of the conversation is empty")
            try:
                text = self._render_chat(messages[:place])
            except Exception as error:  # noqa: BLE001 - chat templates are programs, and raise what they like
                raise RowFault(f"the base model's chat template refuses the conversation: {error}") from None
            yield self._row(record, cells, {CONVERSATION: text}, messages[place]["content"], turn=f"#{place + 1}")


def _row_model(spec: DatasetSpec, input_columns: tuple[str, ...]) -> type[BaseModel]:
    """A model of just the columns that are used, each under the name it has in `ABSENT`."""
    columns: list[tuple[str, Any, str]] = [
        *((f"input{number}", Text, column) for number, column in enumerate(input_columns)),
        ("target", Text, spec.target_column),
        ("messages", list[Message], spec.messages_column),
        ("id", Name, spec.id_column),
        ("part", PartName, spec.split_column),
        ("group", Name, spec.group_column),
        ("must_pass", Flag, spec.must_pass_column),
        *((f"subgroup{number}", Text, column) for number, column in enumerate(spec.subgroup_columns)),
    ]
    fields: dict[str, Any] = {name: (kind, Field(alias=column)) for name, kind, column in columns if column}
    return create_model("DatasetRow", __config__=ConfigDict(extra="ignore", frozen=True), **fields)


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, str):
        raise PydanticCustomError("not_text", "is {kind}, not text", {"kind": "null" if value is None else type(value).__name__})
    if not value.strip():
        raise PydanticCustomError("empty", "is empty")
    if not (value.isascii() and value.isprintable()) and whitespace_only(value):
        raise PydanticCustomError("empty", "shows nothing: all of it is invisible characters")
    return value


def _as_name(value: Any) -> str:
    return "" if value is None or value == "" else _as_text(value)


def _as_part(value: Any) -> str:
    part = PART_NAMES.get(_as_text(value).strip().lower())
    if part is None:
        raise PydanticCustomError("part", "says {value}, not train, validation or test", {"value": repr(value)[:40]})
    return part


def _as_flag(value: Any) -> bool:
    found = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "": False, "none": False}
    flag = found.get(str(value).strip().lower())
    if flag is None:
        raise PydanticCustomError("flag", "says {value}, not true or false", {"value": repr(value)[:40]})
    return flag


Text = Annotated[str, BeforeValidator(_as_text)]
Name = Annotated[str, BeforeValidator(_as_name)]
PartName = Annotated[str, BeforeValidator(_as_part)]
Flag = Annotated[bool, BeforeValidator(_as_flag)]


def _sentence(error: ValidationError, cells: Mapping[str, Any]) -> str:
    """A pydantic error as people say it, without the value: it may be personal."""
    first = error.errors(include_url=False, include_input=False)[0]
    column, *inside = first["loc"]
    if first["type"] == "missing" and not inside:
        return f"no column {column!r}; there are {_listed([*cells]) or 'none'}"
    where = f"column {column!r}" + "".join(f", {part!r}" if isinstance(part, str) else f", item {part + 1}" for part in inside)
    return f"{where} {first['msg']}" if first["type"] in ("not_text", "empty", "part", "flag") else f"{where}: {first['msg']}"


def _listed(columns: list[str]) -> str:
    more = len(columns) - MOST_COLUMNS_NAMED
    return ", ".join(map(repr, columns[:MOST_COLUMNS_NAMED])) + (f" and {more} more" if more > 0 else "")
