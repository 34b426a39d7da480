"""Inputs of language models: prompts, conversations, and what is done to a text."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from cfai.tasks._base import Task, flag, many, nested, number, string, task
from cfai.tasks._text_answers import Summary, Text, Translated
from cfai.tasks._vector_answers import Labels
from cfai.tasks.messages import Message, blocking
from cfai.tasks.tools import CodeFunction, Function, ResponseFormat, Tool, code_function, tool


@task
class _Generation(Task[Text]):
    """What a prompt and a conversation have in common: how the text is to be written."""

    answer: ClassVar[type[Text]] = Text

    frequency_penalty: float | None = number(-2, 2, default=None)
    """From -2 to 2; higher values make the same lines less likely to come again."""

    max_tokens: float | None = number(default=None)
    """The longest text, in tokens."""

    presence_penalty: float | None = number(-2, 2, default=None)
    """From -2 to 2; higher values make new topics more likely."""

    raw: bool | None = flag(default=None)
    """True for a prompt that is in the model's own format already: no chat template is applied."""

    repetition_penalty: float | None = number(0, 2, default=None)
    """From 0 to 2; higher values discourage repeated tokens."""

    response_format: ResponseFormat | Mapping[str, Any] | str | None = nested(
        ResponseFormat.of, default=None
    )
    """The JSON to answer in: a `ResponseFormat`, or a JSON schema. Not together with a stream."""

    seed: float | None = number(1, 9999999999, default=None)
    """From 1 to 9999999999; the same seed gives the same text again, as far as the model can."""

    stream: bool | None = flag(default=None)
    """True to get the text while it is written."""

    temperature: float | None = number(0, 5, default=None)
    """From 0 to 5; higher values give more random texts."""

    top_k: float | None = number(1, 50, default=None)
    """From 1 to 50; out of how many of the likeliest tokens the next one is chosen."""

    top_p: float | None = number(0.001, 1, default=None)
    """From 0.001 to 1; lower values keep to likelier tokens."""


@task
class Prompt(_Generation):
    """Go on with a text, or follow an instruction.

    Source: Workers AI API, `POST /ai/run/{model_name}`, input "Prompt".
    """

    prompt: str = string(at_least=1, kw_only=False)
    """What the model reads; at least 1 character."""

    lora: str | None = string(default=None)
    """The fine-tune (LoRA) to apply to the model: its name or id."""


@task
class TextGeneration(_Generation):
    """Say what comes next in a conversation.

    Source: Workers AI API, `POST /ai/run/{model_name}`, input "Text Generation".
    """

    messages: Sequence[Message | Mapping[str, Any]] = many(Message.of, at_least=1, kw_only=False)
    """The conversation so far, at least one message. Kept as a tuple."""

    lora: str | None = string(default=None)
    """The fine-tune (LoRA) to apply to the model: its name or id.
    Source: Cloudflare docs, Workers AI, "Using LoRA adapters"."""

    functions: Sequence[CodeFunction | Mapping[str, Any]] | None = many(code_function, default=None)
    """Functions that come with their code."""

    tools: Sequence[Tool | Function | Mapping[str, Any]] | None = many(tool, default=None)
    """What the model may call. Kept as a tuple."""

    def blocks(self) -> bool:
        """Tell whether an image in the messages is a file to be read."""
        return blocking(self.messages)


@task
class TextClassification(Task[Labels]):
    """Say what a text is: a feeling, for one.

    Source: Workers AI API, `POST /ai/run/{model_name}`, input "Text Classification".
    """

    answer: ClassVar[type[Labels]] = Labels

    text: str = string(at_least=1, kw_only=False)
    """The text to classify; at least 1 character."""


@task
class Translation(Task[Translated]):
    """Say a text in another language.

    Source: Workers AI API, `POST /ai/run/{model_name}`, input "Translation".
    """

    answer: ClassVar[type[Translated]] = Translated

    text: str = string(at_least=1, kw_only=False)
    """The text to translate; at least 1 character."""

    target_lang: str = string(kw_only=False)
    """The language to translate into, by its code ("es" for Spanish)."""

    source_lang: str | None = string(default=None)
    """The language of the text, by its code; English, where it is left out."""


@task
class Summarization(Task[Summary]):
    """Say a text in fewer words.

    Source: Workers AI API, `POST /ai/run/{model_name}`, input "Summarization".
    """

    answer: ClassVar[type[Summary]] = Summary

    input_text: str = string(at_least=1, kw_only=False)
    """The text to summarize; at least 1 character."""

    max_length: float | None = number(default=None)
    """The longest summary, in tokens."""
