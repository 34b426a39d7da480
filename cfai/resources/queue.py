"""The service's queue: many runs of a model in one request, done when there is capacity.

Source: Cloudflare docs, Workers AI, "Asynchronous Batch API".
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar

from attrs import define, field, frozen

from cfai._session.client import Account
from cfai._session.redaction import redact_error
from cfai._session.session import Spending
from cfai._session.throttle import Throttle
from cfai._types.excerpts import format_value
from cfai._types.values import Value
from cfai._wire.answers import AnswerSpec, answer_spec, read_item, read_neurons
from cfai._wire.bodies import task_fields
from cfai._wire.errors import error_from_item, read_document
from cfai._wire.requests import build_json_request, check_run_model
from cfai._wire.responses import Response, unwrap_result
from cfai._wire.text import read_usage
from cfai.errors import CfaiError, DecodeError, InputError, ModelRetired, RequestTimeout
from cfai.meta import Meta
from cfai.profiles import Profile, identify_retired_model, profile, warn_if_retired
from cfai.settings import Options, Polling
from cfai.tasks import Answer, Embeddings, MediaTask, Result, Task, Usage

A = TypeVar("A", bound=Answer)

# The documentation names "completed" and "queued"; the others are guesses at its other endings.
_FAILED: Final = frozenset({"canceled", "cancelled", "error", "errored", "expired", "failed"})
_DONE: Final = frozenset({"complete", "completed", "done", "finished", "succeeded", "success"})


@frozen(eq=False, repr=False)
class QueuedItem(Value, Generic[A]):
    """The outcome of one task of a batch."""

    reference: str | None
    """The task's `external_reference`; `None` if the service sent neither it nor a number."""

    answer: A | None = field(default=None, kw_only=True)
    """The answer of the task; `None` if it failed."""

    error: CfaiError | None = field(default=None, kw_only=True)
    """Why the task failed; `None` if it did not."""

    raw: Any = field(default=None, kw_only=True, repr=False, eq=False)
    """The item as decoded JSON, without vectors."""

    @property
    def failed(self) -> bool:
        """Whether there is an error instead of an answer."""
        return self.answer is None

    def result(self) -> A:
        """Return the answer, or raise the error."""
        if self.answer is None:
            raise self.error or DecodeError("the service gave no result")
        return self.answer


@frozen(eq=False, repr=False)
class QueuedTask(Value):
    """A task for the queue: its reference, its fields, and how its answer is read."""

    reference: str
    fields: Mapping[str, Any] = field(repr=False)
    spec: AnswerSpec


@frozen(eq=False, repr=False)
class BatchStatus(Value, Generic[A]):
    """A batch as the service reports it. It has no items until it is done."""

    items: list[QueuedItem[A]] | None = None
    request_id: str | None = None
    usage: Usage | None = None
    error: CfaiError | None = None
    """Why the whole batch failed."""

    @property
    def errors(self) -> list[CfaiError]:
        """The error of the batch and those of its items."""
        errors = [self.error, *(item.error for item in self.items or ())]
        return [error for error in errors if error is not None]


@define(eq=False, repr=False)
class QueuedBatch(Generic[A]):
    """A batch in the service's queue: `async for item in batch` waits for it and yields its items.

    It holds no connection open, and the service goes on without it: another program can fetch the
    results later with `request_id` (`WorkersAI.queued`).
    """

    model: str
    _account: Account
    _tasks: Sequence[QueuedTask]
    _status: BatchStatus[A]
    _polling: Polling
    _options: Options | None
    _id: str | None = field(init=False)

    def __attrs_post_init__(self) -> None:
        # The response to a poll may not repeat the id.
        self._id = self._status.request_id

    def __repr__(self) -> str:
        state = "done" if self.done else "queued"
        return f"<QueuedBatch {self._id} of {self.model}: {state}>"

    @property
    def request_id(self) -> str | None:
        """The batch's id at the service; `None` if it was done at once."""
        return self._id

    @property
    def done(self) -> bool:
        """Whether the items have arrived."""
        return self._status.items is not None

    @property
    def usage(self) -> Usage | None:
        """The usage of the whole batch, once it is done and if the service reports it."""
        return self._status.usage

    async def poll(self) -> list[QueuedItem[A]] | None:
        """Check once. Returns the items, one per task in their order, or `None` if not yet done.

        A failed task is an item with an error; the other items keep their answers.

        Raises:
            StatusError: An error response, or the service gave the batch up.
        """
        if not self.done and self._status.error is None and self._id is not None:
            fields = {"request_id": self._id}
            self._status = await send_batch(
                self._account, self.model, fields, self._tasks, self._options, repeatable=True
            )
        if self._status.error is not None:
            raise self._status.error
        return self._status.items

    async def wait(self, timeout: float | None = None) -> list[QueuedItem[A]]:  # noqa: ASYNC109
        """Poll until the batch is done, with growing delays (`Polling`).

        Args:
            timeout: Seconds to wait in all, requests included. 0 checks once; `None` waits as long
                as it takes.

        Raises:
            RequestTimeout: The batch was not done in time. It goes on, and can be waited for again.
        """
        if timeout is None:
            return await self._poll_until_done()
        value: Any = timeout
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
            raise InputError(f"timeout must be 0 or more seconds, got {format_value(timeout)}")
        if timeout == 0:
            items = await self.poll()
        else:
            items = None
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    items = await self._poll_until_done()
        if items is None:
            message = f"batch {self._id} was not done after {timeout:g} s; it goes on"
            raise RequestTimeout(message, phase="total", limit=timeout)
        return items

    async def _poll_until_done(self) -> list[QueuedItem[A]]:
        polls = 0
        while (items := await self.poll()) is None:
            polls += 1
            await self._account.session.connections.sleep(self._polling.pause(polls))
        return items

    async def __aiter__(self) -> AsyncIterator[QueuedItem[A]]:
        for item in await self.wait():
            yield item


async def submit_batch(
    account: Account, model: str, tasks: Any, polling: Polling | None, options: Options | None
) -> QueuedBatch[Any]:
    """Submit tasks to the queue of *model*; see `WorkersAI.queue`."""
    queued = await asyncio.to_thread(build_queued_tasks, model, tasks)
    fields = {"requests": [task.fields for task in queued]}
    status = await send_batch(account, model, fields, queued, options)
    if status.error is not None:
        raise status.error
    if status.items is None and status.request_id is None:
        raise DecodeError("the service queued the batch but sent no request_id")
    return QueuedBatch(model, account, queued, status, polling or Polling(), options)


def find_batch(
    account: Account,
    model: str,
    request_id: str,
    tasks: Any,
    polling: Polling | None,
    options: Options | None,
) -> QueuedBatch[Any]:
    """A batch that was submitted before, here or elsewhere; see `WorkersAI.queued`."""
    if not request_id or not isinstance(request_id, str):
        raise InputError(f"request_id must be a non-empty string, got {format_value(request_id)}")
    queued = () if tasks is None else build_queued_tasks(model, tasks)
    status: BatchStatus[Any] = BatchStatus(None, request_id)
    return QueuedBatch(model, account, queued, status, polling or Polling(), options)


async def send_batch(
    account: Account,
    model: str,
    fields: Mapping[str, Any],
    tasks: Sequence[QueuedTask],
    options: Options | None,
    *,
    repeatable: bool = False,
    throttle: Throttle | None = None,
) -> BatchStatus[Any]:
    """Send a submit or a poll request, and read the status of the batch.

    Args:
        account: Who sends it.
        model: The model of the batch.
        fields: The `requests` of a new batch, or the `request_id` of one to poll.
        tasks: The tasks that were queued; empty if they are not known.
        options: Options for this call only.
        repeatable: Whether it may be sent twice. A batch submitted twice is charged twice.
        throttle: What each attempt goes through.
    """
    settings = account.for_call(options)
    path = f"run/{check_run_model(model)}?queueRequest=true"
    warn_if_retired(model)
    request = build_json_request(
        settings, options, path, fields, repeatable=repeatable, model=model
    )
    request.costs = "requests" in fields

    def read(response: Response) -> BatchStatus[Any]:
        return read_batch_status(read_document(response), response.meta, tasks)

    if tasks and all(task.spec.answer is Embeddings for task in tasks):
        status = await account.session.call_for_vectors(
            request, settings, read_response=read, throttle=throttle
        )
    else:
        status = await account.session.call(
            request, settings, read_response=read, throttle=throttle
        )
    for error in status.errors:
        if isinstance(error, ModelRetired):
            identify_retired_model(error, model)
        redact_error(error, settings.secrets)
    _count_cost(account.spending, status)
    return status


def _count_cost(spending: Spending, status: BatchStatus[Any]) -> None:
    """Count the answers of a batch, with the cost of the batch or else their own."""
    answers = [item.answer for item in status.items or () if item.answer is not None]
    if not answers:
        return
    total = None if status.usage is None else status.usage.neurons
    costs = [read_neurons(answer, shared=True) for answer in answers]
    if total is None and all(cost is None for cost in costs):
        total = answers[0].meta.neurons
    if total is not None:
        costs = [total, *([0.0] * (len(answers) - 1))]
    for cost in costs:
        spending.add(cost)


# Requests


def build_queued_tasks(model: str, tasks: Any) -> tuple[QueuedTask, ...]:
    """Check the tasks and give each a reference. Blocks if a message contains a file.

    Args:
        model: The model of the queue.
        tasks: Several tasks, or a mapping of references to tasks. A task keeps the reference it
            has; the others get their number, from 0.

    Raises:
        InputError: There are no tasks, one can't be queued, or two have the same reference.
    """
    if not isinstance(tasks, Iterable) or isinstance(tasks, str | bytes):
        raise InputError(f"tasks must be an iterable of tasks, got {type(tasks).__name__}")
    pairs = tasks.items() if isinstance(tasks, Mapping) else ((None, task) for task in tasks)
    model_profile = profile(check_run_model(model))
    queued = tuple(
        _build_queued_task(model_profile, index, name, task)
        for index, (name, task) in enumerate(pairs)
    )
    if not queued:
        raise InputError("tasks must not be empty")
    if len({task.reference for task in queued}) < len(queued):
        raise InputError("each task must have its own external_reference")
    return queued


def _build_queued_task(model_profile: Profile, index: int, name: object, task: Any) -> QueuedTask:
    if isinstance(task, MediaTask):
        raise InputError(f"tasks[{index}] must not contain media: the queue takes JSON only")
    if not isinstance(task, Task | Mapping):
        kind = type(task).__name__
        raise InputError(f"tasks[{index}] must be a task or a mapping, got {kind}")
    fields = _queue_fields(task, model_profile) if isinstance(task, Task) else dict(task)
    if fields.pop("stream", None):
        raise InputError(f"tasks[{index}] must not request a stream: the queue sends none")
    named = fields.get("external_reference")
    reference = name if name is not None else str(index) if named is None else named
    if not isinstance(reference, str) or not reference:
        raise InputError(
            f"tasks[{index}]: external_reference must be a non-empty string"
            f", got {format_value(reference)}"
        )
    return QueuedTask(reference, {**fields, "external_reference": reference}, answer_spec(task))


def _queue_fields(task: Task[Any], model_profile: Profile) -> dict[str, Any]:
    return task_fields(
        task, model_profile, {**model_profile.field_names, **model_profile.queue_field_names}, {}
    )


# Responses


def read_batch_status(document: Any, meta: Meta, tasks: Sequence[QueuedTask]) -> BatchStatus[Any]:
    """Read the response to a submit or a poll request.

    Args:
        document: The decoded body.
        meta: The facts of the response.
        tasks: The tasks that were queued. If they are not known, each answer is a `Result`.
    """
    result = unwrap_result(document)
    if not isinstance(result, Mapping):
        raise DecodeError(f"a batch must be an object, got {type(result).__name__}")
    request_id, rows = result.get("request_id"), result.get("responses")
    request_id = request_id if isinstance(request_id, str) and request_id else None
    if isinstance(rows, list):
        items = _read_items(rows, tasks, meta)
        return BatchStatus(items, request_id, read_usage(result.get("usage")))
    status = result.get("status")
    if not isinstance(status, str) or status.casefold() in _DONE:
        raise DecodeError(f"a batch must have a status or results, got {format_value(status)}")
    if status.casefold() in _FAILED:
        message = f"the batch ended with status {status!r}"
        failure = {"message": message, **result, "success": False}
        return BatchStatus(None, request_id, error=error_from_item(failure, meta=meta))
    return BatchStatus(None, request_id)


def _read_items(
    rows: Sequence[Any], tasks: Sequence[QueuedTask], meta: Meta
) -> list[QueuedItem[Any]]:
    """One item per task, in the order of the tasks; then the items that belong to no task."""
    rows_of: dict[str, list[Any]] = {task.reference: [] for task in tasks}
    contradicted: set[str] = set()
    others: list[Any] = []
    is_numbered = _are_numbered(rows, list(rows_of))
    for row in rows:
        names = _named_tasks(row, tasks, rows_of.keys())
        if len(names) == 1 and (is_numbered or _read_reference(row) is not None):
            rows_of[names.pop()].append(row)
        else:
            contradicted |= names
            others.append(row)
    items = []
    for task in tasks:
        task_rows = rows_of[task.reference]
        is_one = task_rows and all(row == task_rows[0] for row in task_rows)
        if is_one and task.reference not in contradicted:
            items.append(_read_item(task_rows[0], task.reference, task, meta))
            continue
        others += task_rows
        problem = (
            "contradictory results" if task_rows or task.reference in contradicted else "no result"
        )
        error = DecodeError(f"the service gave {problem} for this task", meta=meta)
        items.append(QueuedItem(task.reference, error=error))
    return [*items, *(_read_item(row, _read_reference(row), None, meta) for row in others)]


def _are_numbered(rows: Sequence[Any], references: Sequence[str]) -> bool:
    """Whether the numbers of the rows without a reference are exactly those of the other tasks.

    Any others may begin at 1, for example, and be those of other tasks.
    """
    places = {reference: place for place, reference in enumerate(references)}
    missing, numbers = set(places.values()), set[int]()
    for row in rows:
        reference, number = _read_reference(row), _read_number(row)
        if reference is not None:
            missing.discard(places.get(reference, -1))
        elif number is not None:
            numbers.add(number)
    return numbers == missing


def _read_number(row: Any) -> int | None:
    number = row.get("id") if isinstance(row, Mapping) else None
    return number if type(number) is int else None


def _named_tasks(row: Any, tasks: Sequence[QueuedTask], references: Collection[str]) -> set[str]:
    """The references of the tasks that a row names: by its reference and by its number.

    They are the same task, or the row contradicts itself. One with an unknown reference names none.
    """
    reference, number = _read_reference(row), _read_number(row)
    if reference is not None and reference not in references:
        return set()
    names = set() if reference is None else {reference}
    if number is not None and 0 <= number < len(tasks):
        names.add(tasks[number].reference)
    return names


def _read_reference(row: Any) -> str | None:
    reference = row.get("external_reference") if isinstance(row, Mapping) else None
    return reference if isinstance(reference, str) and reference else None


def _read_item(
    row: Any, reference: str | None, task: QueuedTask | None, meta: Meta
) -> QueuedItem[Any]:
    error: CfaiError | None = error_from_item(row, meta=meta)
    if error is not None:
        return QueuedItem(reference, error=error, raw=row)
    try:
        if not isinstance(row, Mapping) or "result" not in row:
            raise DecodeError(f"an item must have a result, got {format_value(row)}")
        spec = AnswerSpec(Result) if task is None else task.spec
        answer = read_item(spec, row["result"], meta)
        if isinstance(answer, Embeddings):
            row = {**row, "result": answer.raw}
        return QueuedItem(reference, answer=answer, raw=row)
    except DecodeError as exc:
        # An item that can't be read must not cost the others.
        exc.meta = meta
        return QueuedItem(reference, error=exc, raw=row)
