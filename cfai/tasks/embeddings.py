"""The tasks that compare: embeddings of texts and images, and reranking of documents."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from attrs import field, frozen

from cfai._types.values import Value
from cfai.errors import InputError
from cfai.media import MediaForm, Source
from cfai.tasks.answers import AnswerItems, Embeddings
from cfai.tasks.generation import Usage
from cfai.tasks.task import (
    MediaTask,
    Task,
    choice,
    flag,
    integer,
    many,
    media,
    shorten,
    string,
    strings,
    task,
)

Pooling = Literal["mean", "cls"]
"""How a model combines token vectors into one. Vectors of different pooling can't be compared."""


@task
class TextEmbeddings(Task[Embeddings]):
    """Embed texts: texts of similar meaning get vectors that are close to each other.

    Source: Workers AI API, `POST /ai/run/{model_name}`, input "Text Embeddings"; the lengths,
    *pooling* and *truncate_inputs* from the input schemas of the bge models.
    """

    answer: ClassVar[type[Embeddings]] = Embeddings
    texts: ClassVar[str | None] = "text"

    text: str | Sequence[str] = strings(one=True, at_least=1, at_least_items=1, kw_only=False)
    """One text or several, each of at least 1 character. The model limits how many at once."""

    pooling: Pooling | None = choice("mean", "cls", default=None)
    """How token vectors are combined (@cf/baai/bge-*-en-v1.5); "cls" suits longer texts better."""

    truncate_inputs: bool | None = flag(default=None)
    """True to truncate texts that are too long, false to refuse them (@cf/baai/bge-m3)."""


@task
class MultimodalEmbeddings(MediaTask[Embeddings]):
    """Embed an image and texts so that they can be compared.

    Source: Workers AI API, `POST /ai/run/{model_name}`, input "Multimodal Embeddings".
    """

    answer: ClassVar[type[Embeddings]] = Embeddings
    form: ClassVar[MediaForm | None] = MediaForm.BASE64

    image: Source | None = media(default=None)
    """The image: bytes, a path, an open binary file or `Base64`."""

    text: Sequence[str] | None = strings(default=None)
    """The texts. Stored as a tuple."""


def _parse_document(value: Any) -> str:
    """Read a document: a string, or an object with a `text` as on the wire."""
    text = value.get("text") if isinstance(value, Mapping) else value
    if not isinstance(text, str) or not text:
        raise InputError(f"a document must be at least 1 character of text, got {shorten(value)}")
    return text


@frozen(eq=False, repr=False)
class Ranked(Value):
    """One document of a ranking."""

    id: int
    """Its index in the documents that were sent, from 0."""

    score: float
    """Its relevance to the query."""

    text: str | None = None
    """The document itself."""


@frozen(eq=False, repr=False)
class Ranking(AnswerItems[Ranked]):
    """Documents, best first."""

    usage: Usage | None = field(default=None, kw_only=True)
    """The token usage, if the model reports it."""


@task
class Rerank(Task[Ranking]):
    """Order documents by how well they answer a query.

    Source: the input schema of @cf/baai/bge-reranker-base.
    """

    answer: ClassVar[type[Ranking]] = Ranking

    query: str = string(at_least=1, kw_only=False)
    """The question; at least 1 character."""

    documents: Sequence[str] = many(
        _parse_document, name="contexts", encode=lambda text: {"text": text}, kw_only=False
    )
    """The texts to order, each of at least 1 character. Stored as a tuple; sent as `contexts`."""

    top_k: int | None = integer(1, default=None)
    """How many of the best to return, at least 1; all by default."""
