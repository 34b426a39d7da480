"""The tasks of language models: prompts, conversations, classification, translation, summaries."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from cfai.errors import InputError
from cfai.profiles import profile
from cfai.settings import UNSET, Unset
from cfai.tasks.answers import Labels, Summary, Text, Translated
from cfai.tasks.messages import Message, any_read_files
from cfai.tasks.task import (
    Task,
    flag,
    integer,
    many,
    mapping,
    nested,
    number,
    string,
    strings,
    task,
)
from cfai.tasks.tools import (
    CodeFunction,
    Function,
    ResponseFormat,
    Tool,
    parse_code_function,
    parse_response_format,
    parse_stream_option,
    parse_template_value,
    parse_tool,
    parse_tool_choice,
)


@task
class _Generation(Task[Text]):
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
class Prompt(_Generation):
    """Continue a text, or follow an instruction.

    Source: Workers AI API, `POST /ai/run/{model_name}`, input "Prompt".
    """

    prompt: str = string(at_least=1, kw_only=False)
    """The text or instruction; at least 1 character."""


@task
class TextGeneration(_Generation):
    """Continue a conversation.

    Source: Workers AI API, `POST /ai/run/{model_name}`, input "Text Generation".
    """

    messages: Sequence[Message | Mapping[str, Any]] = many(Message.of, at_least=1, kw_only=False)
    """The conversation so far, at least one message. Stored as a tuple."""

    functions: Sequence[CodeFunction | Mapping[str, Any]] | None = many(
        parse_code_function, default=None
    )
    """Functions with their code."""

    tools: Sequence[Tool | Function | Mapping[str, Any]] | None = many(parse_tool, default=None)
    """The tools that the model may call. Stored as a tuple."""

    tool_choice: str | Tool | Function | Mapping[str, Any] | None = nested(
        parse_tool_choice, kind="JSON", default=None
    )
    """Whether to call a tool: "auto", "none" or "required"; or the tool to call, as a `Tool`, a
    `Function` or the mapping that is sent. Source: `ChatCompletionToolChoiceOption` in
    @cloudflare/workers-types."""

    parallel_tool_calls: bool | None = flag(default=None)
    """False to get at most one call per turn. Source: as for *tool_choice*."""

    def reads_files(self) -> bool:
        """Tell whether an image in the messages is a file."""
        return any_read_files(self.messages)


@task
class TextClassification(Task[Labels]):
    """Classify a text, for example by sentiment.

    Source: Workers AI API, `POST /ai/run/{model_name}`, input "Text Classification".
    """

    answer: ClassVar[type[Labels]] = Labels

    text: str = string(at_least=1, kw_only=False)
    """The text to classify; at least 1 character."""


@task
class Translation(Task[Translated]):
    """Translate a text.

    Source: Workers AI API, `POST /ai/run/{model_name}`, input "Translation".
    """

    answer: ClassVar[type[Translated]] = Translated

    text: str = string(at_least=1, kw_only=False)
    """The text to translate; at least 1 character."""

    target_lang: str = string(kw_only=False)
    """The code of the language to translate into ("es" for Spanish)."""

    source_lang: str | None = string(default=None)
    """The code of the text's language; English by default."""


@task
class Summarization(Task[Summary]):
    """Summarize a text. The service retired its last model for this on 2026-05-30.

    Source: Workers AI API, `POST /ai/run/{model_name}`, input "Summarization".
    """

    answer: ClassVar[type[Summary]] = Summary

    input_text: str = string(at_least=1, kw_only=False)
    """The text to summarize; at least 1 character."""

    max_length: float | None = number(default=None)
    """The maximum length of the summary, in tokens."""
