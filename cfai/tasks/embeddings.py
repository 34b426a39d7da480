"""Inputs of models that compare: texts and images as vectors, and documents by a query."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from cfai.errors import InputError
from cfai.media import MediaForm, Source
from cfai.tasks._base import (
    MediaTask,
    Task,
    choice,
    flag,
    integer,
    many,
    media,
    string,
    strings,
    task,
)
from cfai.tasks._rule import shortened
from cfai.tasks._vector_answers import Embeddings, Ranking

Pooling = Literal["mean", "cls"]
"""How a model makes one vector of many. Vectors of two kinds cannot be compared."""


@task
class TextEmbeddings(Task[Embeddings]):
    """Turn texts into vectors that are near where the texts mean the like.

    Source: Workers AI API, `POST /ai/run/{model_name}`, input "Text Embeddings"; the lengths,
    *pooling* and *truncate_inputs* from the input schemas of the bge models.
    """

    answer: ClassVar[type[Embeddings]] = Embeddings
    texts: ClassVar[str | None] = "text"

    text: str | Sequence[str] = strings(one=True, at_least=1, at_least_items=1, kw_only=False)
    """One text, or several; each of at least 1 character. How many at once, the model decides."""

    pooling: Pooling | None = choice("mean", "cls", default=None)
    """How one vector is made of many (@cf/baai/bge-*-en-v1.5); "cls" suits longer texts better."""

    truncate_inputs: bool | None = flag(default=None)
    """True to cut texts that are too long, false to refuse them (@cf/baai/bge-m3)."""


@task
class MultimodalEmbeddings(MediaTask[Embeddings]):
    """Turn an image and texts into vectors that can be compared.

    Source: Workers AI API, `POST /ai/run/{model_name}`, input "Multimodal Embeddings".
    """

    answer: ClassVar[type[Embeddings]] = Embeddings
    form: ClassVar[MediaForm | None] = MediaForm.BASE64

    image: Source | None = media(default=None)
    """The image: bytes, a path, an open binary file or `Base64`."""

    text: Sequence[str] | None = strings(default=None)
    """The texts. Kept as a tuple."""


def _document(value: Any) -> str:
    """Take the text of a document, which on the wire is an object that holds it."""
    found = value.get("text") if isinstance(value, Mapping) else value
    if not isinstance(found, str) or not found:
        raise InputError(f"a document must be text of at least 1 character, got {shortened(value)}")
    return found


def _context(text: str) -> dict[str, str]:
    return {"text": text}


@task
class Rerank(Task[Ranking]):
    """Order documents by how well they answer a query.

    Source: the input schema of @cf/baai/bge-reranker-base.
    """

    answer: ClassVar[type[Ranking]] = Ranking

    query: str = string(at_least=1, kw_only=False)
    """What is asked; at least 1 character."""

    documents: Sequence[str] = many(_document, name="contexts", encode=_context, kw_only=False)
    """The texts to order, each of at least 1 character. Kept as a tuple; sent as `contexts`."""

    top_k: int | None = integer(1, default=None)
    """How many of the best to give back, at least 1; all, where it is left out."""
