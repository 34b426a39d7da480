"""The queue on the wire: many runs of a model in one request, which are done when there is room."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

from attrs import field, frozen

from cfai._wire import answers
from cfai._wire.errors import in_item
from cfai._wire.paths import model_path
from cfai._wire.requests import Request, with_json
from cfai._wire.responses import unwrapped
from cfai._wire.results import Asked, asked
from cfai._wire.text import usage
from cfai.errors import CfaiError, DecodeError, InputError
from cfai.meta import Meta
from cfai.settings import Options, Settings
from cfai.tasks import Answer, MediaTask, Result, Task, Usage

A = TypeVar("A", bound=Answer)

# Source: Cloudflare docs, Workers AI, "Asynchronous Batch API"; how else it might end is not said.
_FAILED: Final = frozenset({"canceled", "cancelled", "error", "errored", "expired", "failed"})
_DONE: Final = frozenset({"complete", "completed", "done", "finished", "succeeded", "success"})


@frozen
class QueuedItem(Generic[A]):
    """What became of one task of a batch."""

    reference: str | None
    """The task's `external_reference`; `None` where the service named none, nor its number."""

    answer: A | None = field(default=None, kw_only=True)
    """What the task promises; `None` where it failed."""

    error: CfaiError | None = field(default=None, kw_only=True)
    """Why it failed; `None` where it did not."""

    raw: Any = field(default=None, kw_only=True, repr=False, eq=False)
    """What the service said of it."""

    @property
    def failed(self) -> bool:
        """Whether there is an error in place of an answer."""
        return self.answer is None

    def result(self) -> A:
        """Give the answer, or raise why there is none."""
        if self.answer is None:
            raise self.error or DecodeError("the service gave no result")
        return self.answer


@frozen
class Queued:
    """A task that was queued: what it is known by, what is sent, and what to expect."""

    reference: str
    fields: Mapping[str, Any] = field(repr=False)
    asked: Asked


@frozen
class Batch(Generic[A]):
    """What the service says of a batch; no items while it isn't done."""

    items: list[QueuedItem[A]] | None = None
    request_id: str | None = None
    usage: Usage | None = None
    error: CfaiError | None = None
    """Why it came to nothing."""

    @property
    def errors(self) -> list[CfaiError]:
        """The error of the batch, and those of its items."""
        errors = [self.error, *(item.error for item in self.items or ())]
        return [error for error in errors if error is not None]


def queued(tasks: Any) -> tuple[Queued, ...]:
    """Check the tasks, and give each a reference. Blocks where a message holds a file.

    Args:
        tasks: Several, or a mapping of references to tasks. A reference that a task brings along
            is kept; the others are numbers, from 0.

    Raises:
        InputError: There is none, one can't be queued, or two have the same reference.
    """
    if not isinstance(tasks, Iterable) or isinstance(tasks, str | bytes):
        raise InputError(f"tasks must be several tasks, got {type(tasks).__name__}")
    pairs = list(tasks.items()) if isinstance(tasks, Mapping) else [(None, it) for it in tasks]
    made = tuple(_queued(at, name, task) for at, (name, task) in enumerate(pairs))
    if not made:
        raise InputError("tasks must not be empty")
    if len({one.reference for one in made}) < len(made):
        raise InputError("each of tasks must have an external_reference of its own")
    return made


def _queued(at: int, name: object, task: Any) -> Queued:
    if isinstance(task, MediaTask):
        raise InputError(f"tasks[{at}] must be made of JSON: the queue takes no media")
    if not isinstance(task, Task | Mapping):
        kind = type(task).__name__
        raise InputError(f"tasks[{at}] must be a task or a mapping, got {kind}")
    fields = task.payload() if isinstance(task, Task) else dict(task)
    if fields.pop("stream", None):
        raise InputError(f"tasks[{at}] must not ask for a stream: the queue gives none")
    own = fields.get("external_reference")
    reference = name if name is not None else str(at) if own is None else own
    if not isinstance(reference, str) or not reference:
        raise InputError(f"tasks[{at}]: external_reference must be a text, got {reference!r:.60}")
    return Queued(reference, {**fields, "external_reference": reference}, asked(task))


def submit(
    settings: Settings,
    options: Options | None,
    *,
    model: str,
    tasks: Sequence[Queued],
    repeatable: bool = False,
) -> Request:
    """`POST /ai/run/{model_name}?queueRequest=true`. Carried out twice, it would be paid twice."""
    fields = {"requests": [task.fields for task in tasks]}
    return with_json(settings, options, _path(model), fields, repeatable=repeatable)


def poll(settings: Settings, options: Options | None, *, model: str, request_id: str) -> Request:
    """The same address, asked for what became of a batch."""
    fields = {"request_id": request_id}
    return with_json(settings, options, _path(model), fields, repeatable=True)


def _path(model: str) -> str:
    return f"run/{model_path(model)}?queueRequest=true"


def reader(tasks: Sequence[Queued]) -> Callable[[Any, Meta], Batch[Any]]:
    """What reads the answer to either of the two.

    Args:
        tasks: What was queued. Where that isn't known, all answers are a `Result`.
    """

    def batch(document: Any, meta: Meta) -> Batch[Any]:
        result = unwrapped(document)
        if not isinstance(result, Mapping):
            raise DecodeError(f"a batch is documented, got {type(result).__name__}")
        request_id, rows = result.get("request_id"), result.get("responses")
        known = request_id if isinstance(request_id, str) and request_id else None
        if isinstance(rows, list):
            items = _items(rows, tasks, meta)
            return Batch(items, known, usage(result.get("usage")))
        status = result.get("status")
        if not isinstance(status, str) or status.casefold() in _DONE:
            raise DecodeError(
                f"a batch with its status or results is documented, got {status!r:.60}"
            )
        if status.casefold() in _FAILED:
            said = {"message": f"the batch ended as {status[:60]!r}", **result, "success": False}
            return Batch(None, known, error=in_item(said, meta=meta))
        return Batch(None, known)

    return batch


def _items(rows: Sequence[Any], tasks: Sequence[Queued], meta: Meta) -> list[QueuedItem[Any]]:
    """An item a task, in the order of the tasks; behind them what belongs to none of them."""
    found: dict[str, QueuedItem[Any]] = {}
    others: list[QueuedItem[Any]] = []
    known = {task.reference: task for task in tasks}
    for row in rows:
        reference = _reference(row, tasks)
        item = _item(row, reference, known.get(reference or ""), meta)
        if reference in known and reference not in found:
            found[reference] = item
        else:
            others.append(item)
    missing = DecodeError("the service gave no result for this task", meta=meta)
    return [
        *(found.get(name) or QueuedItem(name, error=missing) for name in known),
        *others,
    ]


def _reference(row: Any, tasks: Sequence[Queued]) -> str | None:
    """What an item is known by: its reference, or else its number."""
    if not isinstance(row, Mapping):
        return None
    named, number = row.get("external_reference"), row.get("id")
    if isinstance(named, str) and named:
        return named
    if type(number) is int and 0 <= number < len(tasks):
        return tasks[number].reference
    return None


def _item(row: Any, reference: str | None, task: Queued | None, meta: Meta) -> QueuedItem[Any]:
    error: CfaiError | None = in_item(row, meta=meta)
    if error is not None:
        return QueuedItem(reference, error=error, raw=row)
    try:
        if not isinstance(row, Mapping) or "result" not in row:
            raise DecodeError(f"an item with its result is documented, got {row!r:.80}")
        question = Asked(Result) if task is None else task.asked
        return QueuedItem(reference, answer=answers.item(question, row["result"], meta), raw=row)
    except DecodeError as exc:
        # One item that nobody can read is no reason to lose the others.
        exc.meta = meta
        return QueuedItem(reference, error=exc, raw=row)
