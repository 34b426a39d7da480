"""The other tasks of language models, and their answers: conversations, classification, translation
and summaries.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from attrs import frozen

from cfai._types.values import Value
from cfai.tasks.answers import AnswerItems
from cfai.tasks.generation import Generation, WrittenAnswer
from cfai.tasks.messages import Message, any_read_files
from cfai.tasks.task import Task, flag, many, nested, number, string, task
from cfai.tasks.tools import (
    CodeFunction,
    Function,
    Tool,
    parse_code_function,
    parse_tool,
    parse_tool_choice,
)

# Answers


@frozen(eq=False, repr=False)
class Translated(WrittenAnswer):
    """A translation. `str()` of the answer is the text."""


@frozen(eq=False, repr=False)
class Summary(WrittenAnswer):
    """A summary. `str()` of the answer is the text."""


@frozen(eq=False, repr=False)
class Label(Value):
    """A class and the model's confidence in it."""

    label: str
    score: float
    """From 0 to 1."""


@frozen(eq=False, repr=False)
class Labels(AnswerItems[Label]):
    """Labels, in the service's order."""

    @property
    def best(self) -> Label:
        """The label with the highest score. Raises `ValueError` if there are no labels."""
        return max(self.items, key=lambda label: label.score)


# Tasks


@task
class TextGeneration(Generation):
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
