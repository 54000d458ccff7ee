"""What requests and replies look like: OpenAI's, as far as they mean something here.

A parameter that is not understood is refused by name rather than ignored. Some that OpenAI knows are taken at the one value at
which they change nothing, because clients send that.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

MAX_CHOICES = 16
MAX_STOP_STRINGS = 4
MAX_INPUTS = 64

Text = Annotated[str, Field(min_length=1)]
Values = Annotated[dict[str, str], Field(max_length=64)]
StopString = Annotated[str, Field(min_length=1, max_length=256)]


def _neutral(*accepted: Any) -> AfterValidator:
    def check(value: Any) -> Any:
        if value is not None and not any(value == one and type(value) is type(one) for one in accepted):
            raise ValueError("is not supported here; leave it out")
        return value

    return AfterValidator(check)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class Strict(BaseModel):
    """Unknown keys, other types, NaN and infinity are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True)


class StreamOptions(Strict):
    """How a stream is sent."""

    include_usage: bool = False
    """One more event at the end, with the number of tokens."""


class Drawing(Strict):
    """What completions and chat completions have in common."""

    model: Annotated[str, Field(max_length=300)]
    """A prompt's name, or `NAME@sha256:DIGEST` of the active generation or of those it allows to be pinned."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """0, the default here: the most likely token, as prompts are evaluated. OpenAI's default is 1."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Draw from the most likely tokens that together have this probability."""
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    """How many answers."""
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    """The same seed gives the same answer. Without one, answers at a temperature above 0 differ each time."""
    stop: Annotated[list[StopString], Field(max_length=MAX_STOP_STRINGS), BeforeValidator(_listed)] | None = None
    """Strings that end an answer; they are not part of it."""
    stream: bool | None = None
    """Send the answer while it is written, as server-sent events."""
    stream_options: StreamOptions | None = None
    user: Annotated[str, Field(max_length=512)] | None = None
    """Whoever says the same again gets the same prompt of a canary. Only a hash of it is used."""
    presence_penalty: Annotated[float | None, _neutral(0.0)] = None
    frequency_penalty: Annotated[float | None, _neutral(0.0)] = None
    logit_bias: Annotated[dict[str, float] | None, _neutral({})] = None

    @model_validator(mode="after")
    def _check_stream(self) -> Self:
        if self.stream_options and not self.stream:
            raise ValueError("stream_options: only with stream: true")
        return self

    @property
    def streams_usage(self) -> bool:
        """Whether a stream is to end with the number of tokens."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def num_choices(self) -> int:
        """Answers to each input text."""
        return self.n or 1


class CompletionRequest(Drawing):
    """Continue an input text behind a prompt."""

    prompt: Text | Values | Annotated[list[Text], Field(min_length=1, max_length=MAX_INPUTS)]
    """The input text, which the prompt's own template is put around; the values of a template with several fields; or several
    texts."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Longest answer. By default what the prompt was evaluated with."""
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    """Logarithms of the probabilities of the chosen tokens, and of so many of the most likely ones."""
    echo: Annotated[bool | None, _neutral(False)] = None
    best_of: Annotated[int | None, _neutral(1)] = None
    suffix: Annotated[str | None, _neutral()] = None


class TextPart(Strict):
    """A part of a message."""

    type: Literal["text"]
    text: str


class Message(Strict):
    """One turn of a conversation."""

    role: Annotated[str, Field(pattern=r"^[a-z]{1,32}$")]
    """Which ones there may be is up to the prompt: one that was tuned on conversations takes what the base model's chat template
    takes, every other one takes one message of the user."""
    content: str | Annotated[list[TextPart], Field(min_length=1, max_length=64)]

    @property
    def text(self) -> str:
        """All of it."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class ResponseFormat(Strict):
    """Only text."""

    type: Literal["text"]


class ChatRequest(Drawing):
    """Answer a conversation."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=1000)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Longest answer; OpenAI's older name of the next one."""
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    """Longest answer. By default what the prompt was evaluated with."""
    logprobs: bool | None = None
    """Logarithms of the probabilities of the chosen tokens."""
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    """With `logprobs: true`: so many of the most likely tokens, too."""
    response_format: ResponseFormat | None = None
    store: Annotated[bool | None, _neutral(False)] = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.max_tokens and self.max_completion_tokens:
            raise ValueError("max_tokens: not together with max_completion_tokens")
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs: only with logprobs: true")
        return self


class ClassifyRequest(Strict):
    """Rank a prompt's labels for one text, or for the values of a template with several fields."""

    model: Annotated[str, Field(max_length=300)]
    input: Text | Values
    user: Annotated[str, Field(max_length=512)] | None = None
    """As in a completion."""


class ClassifyReply(BaseModel):
    """The most likely label, and how likely each one is."""

    label: str
    probabilities: dict[str, float]
    """Label -> probability; they sum to 1."""


class Usage(BaseModel):
    """Tokens of a request; those of the prompt itself are not counted, as nobody sent them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CompletionChoice(BaseModel):
    """One answer."""

    index: int
    text: str
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length"]


class Completion(BaseModel):
    """The reply to a completion request."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage


class ChatAnswer(BaseModel):
    """What the assistant says."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(BaseModel):
    """One answer."""

    index: int
    message: ChatAnswer
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length"]


class ChatCompletion(BaseModel):
    """The reply to a chat completion request."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class ErrorBody(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorReply(BaseModel):
    """OpenAI's form of an error."""

    error: ErrorBody
