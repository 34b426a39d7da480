"""The service's models, as far as the local server has to tell one from another."""

from attrs import frozen

from cfai.profiles import profile

_WIDTH = 384

_NOT_TEXT = ("@cf/cloudflare/clef", "@cf/meta/llama-guard", "@hf/thebloke/llamaguard")
"""Filed under text generation, but their answers are judgements, which no small model can stand
in for."""

_OTHER_TASKS = {"@cf/baai/bge-reranker-base": "Reranking"}
"""Filed under a task with another input and answer."""

_TEXT_FIELDS = {"@cf/qwen/qwen3-embedding-0.6b": ("queries", "documents", "text")}
"""Where an embedding model takes its texts, if not in `text` alone. Source: its input schema."""


@frozen
class Model:
    """A model of the service, which another one stands in for here."""

    name: str
    task: str
    """The service's name of its task, or "Reranking"."""
    dimensions: int
    """How many numbers a vector of it has."""
    texts_per_request: int | None
    text_fields: tuple[str, ...]
    takes_contexts: bool
    """Whether it also takes a query and contexts, as bge-m3 does."""


def look_up(name: str) -> Model | None:
    """Give what is known of a model; `None` where the service has no such model."""
    known = profile(name)
    if known.task is None:
        return None
    judges = name.startswith(_NOT_TEXT)
    return Model(
        name,
        task="Judgement" if judges else _OTHER_TASKS.get(name, known.task),
        dimensions=known.dimension or _WIDTH,
        texts_per_request=known.texts_per_request,
        text_fields=_TEXT_FIELDS.get(name, ("text",)),
        takes_contexts=name == "@cf/baai/bge-m3",
    )
