"""The prompt and its answer, a text: all that a plain run of a model needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from attrs import field, frozen

from cfai._types.values import Value
from cfai.errors import InputError
from cfai.profiles import profile
from cfai.settings import UNSET, Unset
from cfai.tasks.task import (
    Answer,
    Task,
    flag,
    integer,
    mapping,
    nested,
    number,
    shorten,
    string,
    strings,
    task,
)

# Answers


@frozen(eq=False, repr=False)
class Usage(Value):
    """The token usage of a run. 0 also means that the service did not report the number."""

    prompt_tokens: int = 0
    """Tokens in the input."""

    completion_tokens: int = 0
    """Tokens generated, including reasoning."""

    total_tokens: int = 0
    cached_tokens: int | None = None
    """How many of the input tokens came from the prefix cache."""

    reasoning_tokens: int | None = None
    """How many of the generated tokens were reasoning."""

    neurons: float | None = None
    """The unit that Cloudflare bills."""


@frozen(eq=False, repr=False)
class ToolCall(Value):
    """A model's request to call a tool."""

    name: str
    """The tool's name."""

    arguments: Any = None
    """The arguments, decoded; the text itself if it is not JSON."""

    id: str | None = None
    """The id to pass to `tool_result`. Not every model sends one."""


@frozen(eq=False, repr=False)
class WrittenAnswer(Answer):
    """An answer that is a text. `str()` of it is the text."""

    text: str

    def __str__(self) -> str:
        return self.text


@frozen(eq=False, repr=False)
class Text(WrittenAnswer):
    """The text that a language model generated. `str()` of the answer is the text."""

    text: str = ""
    """The text; empty if the model only called tools, also if it wrote the calls as its text."""

    parsed: Any = None
    """The decoded value, if JSON was requested."""

    tool_calls: tuple[ToolCall, ...] = ()
    """The tools to call, in the model's order."""

    reasoning: str = ""
    """The model's reasoning before the text, if it sends it."""

    finish_reason: str | None = None
    """Why generation ended: "stop", "length", "tool_calls", ..."""

    usage: Usage | None = None
    """The token usage."""

    @property
    def hint(self) -> str | None:
        """What to change if there is no text because the reasoning used up all tokens.

        Or because the service did not send the text that it counted. `None` for every other answer.
        """
        if self.text.strip() or self.tool_calls:
            return None
        if self.reasoning or (self.usage and self.usage.reasoning_tokens):
            if self.finish_reason != "length":
                return None
            return (
                "the reasoning used up all tokens: raise max_tokens, or reduce it with "
                "thinking=False or reasoning_effort"
            )
        # An empty answer has one token, its end. llama-4-scout was reported (2026-08-23) to stream
        # no text if it has tools.
        if self.usage and self.usage.completion_tokens > 1 and not self.text:
            count = self.usage.completion_tokens
            return (
                f"the model generated {count} tokens, but sent no text: call run() if it streamed"
            )
        return None


@frozen(eq=False, repr=False)
class Result(Answer):
    """The answer of a `run` with a plain dictionary: the decoded result, unchanged."""

    value: Any

    def __getitem__(self, key: Any) -> Any:
        """Give an entry of a mapping, or an item of a list."""
        return self.value[key]

    def __contains__(self, key: object) -> bool:
        return isinstance(self.value, Mapping | list) and key in self.value


# The format of the text


def is_wrapped_schema(schema: Any) -> bool:
    """Whether *schema* is the `{name, description, schema, strict}` that other services use."""
    match schema:
        case {"schema": Mapping()}:
            return "type" not in schema and "properties" not in schema
    return False


def _unwrap_schema(schema: Any) -> Any:
    """Take the schema out of `{name, description, schema, strict}`.

    What the name and the description tell the model is kept: as those of the schema, which may have
    its own.
    """
    if not is_wrapped_schema(schema):
        return schema
    outer = {
        "title": schema.get("title", schema.get("name")),
        "description": schema.get("description"),
    }
    texts = {key: text for key, text in outer.items() if isinstance(text, str)}
    return {**texts, **schema["schema"]}


def _check_format_type(value: Any) -> Any:
    if value not in (None, "json_object", "json_schema"):
        raise InputError(f"type must be json_object or json_schema, got {shorten(value)}")
    return value


@frozen(eq=False, repr=False)
class ResponseFormat(Value):
    """The JSON format of the generated text. Not possible in a stream.

    Source: Workers AI API, `POST /ai/run/{model_name}`, input "Text Generation", `response_format`.
    """

    type: str | None = field(default=None, converter=_check_format_type)
    """ "json_object" for any JSON, "json_schema" for JSON that matches *json_schema*."""

    json_schema: Any = field(default=None, kw_only=True)
    """The schema, or `{name, description, schema, strict}`, which models of other providers receive
    as it is. Workers AI's own models receive the schema, with the name and the description as its
    title and description unless it has its own."""

    @classmethod
    def of(cls, value: ResponseFormat | Mapping[str, Any] | str) -> ResponseFormat:
        """Read a format from a mapping of the documented form, a JSON schema, or a type's name.

        Raises:
            InputError: It is none of them.
        """
        match value:
            case ResponseFormat():
                return value
            case str():
                return cls(value)
            case {"type": "json_object" | "json_schema"} | {"json_schema": _}:
                return cls(value.get("type"), json_schema=value.get("json_schema"))
            case Mapping() if value:
                return cls("json_schema", json_schema=value)
        raise InputError(f"must be a ResponseFormat or a JSON schema, got {shorten(value)}")

    def payload(self) -> dict[str, Any]:
        """Give the format as JSON."""
        body = {"type": self.type, "json_schema": _unwrap_schema(self.json_schema)}
        return {name: value for name, value in body.items() if value is not None}


def parse_response_format(value: Any) -> ResponseFormat | None:
    """Read a format. `None` is the default format, for which only other services have a name."""
    return None if value == {"type": "text"} else ResponseFormat.of(value)


def parse_template_value(value: Any) -> Any:
    """Accept any value: the names and their values depend on the model's template."""
    return value


def parse_stream_option(value: Any) -> bool:
    """Check the value of an option of a stream.

    Raises:
        InputError: It is not a boolean.
    """
    if not isinstance(value, bool):
        raise InputError(f"must be true or false, got {shorten(value)}")
    return value


# The tasks


@task
class Generation(Task[Text]):
    """The options that `Prompt` and `TextGeneration` share.

    Sources: Workers AI API, `POST /ai/run/{model_name}`, inputs "Prompt" and "Text Generation"; of
    `max_completion_tokens`, `stop`, `n`, `logprobs`, `top_logprobs`, `reasoning_effort`,
    `chat_template_kwargs` and `stream_options`: `ChatCompletionsCommonOptions` in
    @cloudflare/workers-types, the input of newer models. It has no bounds.
    """

    answer: ClassVar[type[Text]] = Text

    frequency_penalty: float | None = number(-2, 2, default=None)
    """From -2 to 2; higher values make repetition of the same lines less likely."""

    max_tokens: float | None = number(default=None)
    """The maximum length of the text, in tokens."""

    presence_penalty: float | None = number(-2, 2, default=None)
    """From -2 to 2; higher values make new topics more likely."""

    raw: bool | None = flag(default=None)
    """True if the prompt is in the model's own format: no chat template is applied."""

    repetition_penalty: float | None = number(0, 2, default=None)
    """From 0 to 2; higher values make repeated tokens less likely."""

    response_format: ResponseFormat | Mapping[str, Any] | str | None = nested(
        parse_response_format, default=None
    )
    """The JSON to generate: a `ResponseFormat` or a JSON schema. Not possible in a stream."""

    seed: float | None = number(1, 9999999999, default=None)
    """From 1 to 9999999999; the same seed gives the same text, as far as the model allows."""

    stream: bool | None = flag(default=None)
    """True to receive the text while it is generated."""

    temperature: float | None = number(0, 5, default=None)
    """From 0 to 5; higher values make the text more random."""

    top_k: float | None = number(1, 50, default=None)
    """From 1 to 50; sample from the *top_k* most likely tokens."""

    top_p: float | None = number(0.001, 1, default=None)
    """From 0.001 to 1; lower values make the text more predictable."""

    lora: str | None = string(default=None)
    """The fine-tune (LoRA) to apply to the model: its name or id.
    Source: Cloudflare docs, Workers AI, "Using LoRA adapters"."""

    max_completion_tokens: float | None = number(default=None)
    """The maximum length of reasoning and text together, in tokens. Older models know only
    *max_tokens*."""

    stop: str | Sequence[str] | None = strings(one=True, default=None)
    """A text, or several, at which the model stops writing."""

    thinking: bool | None = flag(translated=True, default=None)
    """False to get the text without reasoning before it, true to turn the reasoning on. Sent in the
    way of the model's family; an `InputError` if none is known for the model."""

    reasoning_effort: str | Unset | None = string(default=UNSET)
    """How much to reason: of "none", "minimal", "low", "medium", "high", "xhigh" and "max", those
    that the model supports. Null is sent, too; leave the field out for the model's default."""

    chat_template_kwargs: Mapping[str, Any] | None = mapping(parse_template_value, default=None)
    """Options of the model's chat template, such as `{"clear_thinking": False}`, which keeps the
    reasoning of earlier turns."""

    logprobs: bool | None = flag(default=None)
    """True for the log probability of each token; they are in `raw` of the answer or token."""

    top_logprobs: float | None = number(default=None)
    """How many of the most likely tokens to list at each position, with their log probabilities."""

    n: Literal[1] | None = integer(1, 1, default=None)
    """Only 1: an answer has one text. Run the task again for another one."""

    stream_options: Mapping[str, bool] | None = mapping(parse_stream_option, default=None)
    """Options of a stream: "include_usage" and "include_obfuscation". Sent only with a stream."""

    def payload_for(self, model: str) -> dict[str, Any]:
        """Give the JSON body of the request for *model*.

        Raises:
            InputError: The model's thinking can't be switched as `thinking` says.
        """
        body = self.payload()
        if self.thinking is not None:
            del body["thinking"]
            options = _switch_thinking(model, self.thinking, body.get("chat_template_kwargs") or {})
            if options:
                body["chat_template_kwargs"] = options
        return body


def _switch_thinking(model: str, thinking: bool, options: Mapping[str, Any]) -> dict[str, Any]:
    """Give the options of the chat template that turn the thinking of *model* on or off."""
    model_profile = profile(model)
    if model_profile.always_thinks and thinking:
        return dict(options)
    if model_profile.always_thinks:
        raise InputError(f"thinking must not be false for {model}, which always thinks")
    if not model_profile.thinking_switches:
        raise InputError(
            f"thinking must not be set for {model}: it is not known how to turn it on or off; "
            "leave it out, or set the model's own field, such as reasoning_effort"
        )
    for name in model_profile.thinking_switches:
        if name in options:
            raise InputError(f"chat_template_kwargs must not repeat {name}, which thinking sets")
    return {**options, **dict.fromkeys(model_profile.thinking_switches, thinking)}


@task
class Prompt(Generation):
    """Continue a text, or follow an instruction.

    Source: Workers AI API, `POST /ai/run/{model_name}`, input "Prompt".
    """

    prompt: str = string(at_least=1, kw_only=False)
    """The text or instruction; at least 1 character."""
