"""The tasks of language models: prompts, conversations, classification, translation, summaries."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from cfai.tasks.answers import Labels, Summary, Text, Translated
from cfai.tasks.messages import Message, any_read_files
from cfai.tasks.task import Task, flag, many, nested, number, string, task
from cfai.tasks.tools import (
    CodeFunction,
    Function,
    ResponseFormat,
    Tool,
    parse_code_function,
    parse_response_format,
    parse_tool,
)


@task
class _Generation(Task[Text]):
    """The options that `Prompt` and `TextGeneration` share."""

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
