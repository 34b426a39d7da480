"""`QueuedBatch`: runs that were handed over, and are done when the service has room."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Generic, TypeVar

from cfai._session.redaction import redact_error
from cfai._wire import queue as wire
from cfai._wire.queue import Batch, Queued, QueuedItem
from cfai.errors import DecodeError, InputError, RequestTimeout
from cfai.meta import Meta
from cfai.resources.account import Account, Asking
from cfai.settings import Options, Polling
from cfai.tasks import Answer, Usage

A = TypeVar("A", bound=Answer)


def _check_wait(timeout: object) -> None:
    number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if not number or not timeout >= 0:  # type: ignore[operator]  # checked: a number
        raise InputError(f"timeout must be a number of seconds, 0 or more, got {timeout!r:.60}")


class QueuedBatch(Generic[A]):
    """A batch in the service's queue: `async for item in batch` waits for it, and gives its items.

    It holds nothing open, and the service goes on without it: with `request_id`, another program
    can ask for it later (`WorkersAI.queued`).
    """

    def __init__(
        self,
        account: Account,
        model: str,
        tasks: Sequence[Queued],
        batch: Batch[A],
        *,
        polling: Polling,
        options: Options | None,
    ) -> None:
        self.model = model
        self._account = account
        self._tasks = tasks
        self._batch = batch
        self._polling = polling
        self._options = options
        self._id = batch.request_id

    def __repr__(self) -> str:
        state = "done" if self.done else "queued"
        return f"<QueuedBatch {self._id} of {self.model}: {state}>"

    @property
    def request_id(self) -> str | None:
        """What the service knows it by; `None` where it was done at once."""
        return self._id

    @property
    def done(self) -> bool:
        """Whether the items are here."""
        return self._batch.items is not None

    @property
    def usage(self) -> Usage | None:
        """What all of it used, once it is done and where the service says so."""
        return self._batch.usage

    async def poll(self) -> list[QueuedItem[A]] | None:
        """Look once. Gives the items, one a task and in their order, or `None` while it isn't done.

        A task that failed is an item that says so, and the others are not lost with it.

        Raises:
            StatusError: The service knows no such batch, gave it up, or said no.
        """
        if not self.done and self._batch.error is None and self._id is not None:
            asking = partial(wire.poll, model=self.model, request_id=self._id)
            read = wire.reader(self._tasks)
            self._batch = await _ask(self._account, asking, read, self._options)
        if self._batch.error is not None:
            raise self._batch.error
        return self._batch.items

    async def wait(self, timeout: float | None = None) -> list[QueuedItem[A]]:  # noqa: ASYNC109
        """Look until it is done, with longer and longer pauses (`Polling`).

        Args:
            timeout: Seconds to wait in all, whatever a look takes; 0 looks once, and `None` waits
                as long as it takes.

        Raises:
            RequestTimeout: It wasn't done by then. It goes on, and may be waited for again.
        """
        if timeout is None:
            return await self._done()
        _check_wait(timeout)
        if timeout == 0:
            items = await self.poll()
        else:
            items = None
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    items = await self._done()
        if items is None:
            message = f"batch {self._id} was not done within {timeout:g} s, and goes on"
            raise RequestTimeout(message, phase="total", limit=timeout)
        return items

    async def _done(self) -> list[QueuedItem[A]]:
        """Look until it is done."""
        looks = 0
        while (items := await self.poll()) is None:
            looks += 1
            await asyncio.sleep(self._polling.pause(looks))
        return items

    async def __aiter__(self) -> AsyncIterator[QueuedItem[A]]:
        for item in await self.wait():
            yield item


async def _ask(
    account: Account, asking: Asking, read: Callable[[Any, Meta], Batch[A]], options: Options | None
) -> Batch[A]:
    """Ask for a batch, and remove secrets from the errors that it holds."""
    batch = await account.hear(asking, read, options)
    secrets = account.settings.for_call(options).secrets
    for error in batch.errors:
        redact_error(error, secrets)
    return batch


async def submitted(
    account: Account, model: str, tasks: Any, *, polling: Polling, options: Options | None
) -> QueuedBatch[Any]:
    """Hand tasks over to the queue of *model*."""
    found = await asyncio.to_thread(wire.queued, tasks)
    asking = partial(wire.submit, model=model, tasks=found)
    batch = await _ask(account, asking, wire.reader(found), options)
    if batch.error is not None:
        raise batch.error
    if batch.items is None and batch.request_id is None:
        raise DecodeError("the service queued a batch and did not say what it knows it by")
    return QueuedBatch(account, model, found, batch, polling=polling, options=options)


def known(
    account: Account,
    model: str,
    request_id: str,
    tasks: Any,
    *,
    polling: Polling,
    options: Options | None,
) -> QueuedBatch[Any]:
    """A batch that was queued before, by this program or another one."""
    if not request_id or not isinstance(request_id, str):
        raise InputError(f"request_id must be a text, got {request_id!r:.60}")
    found = () if tasks is None else wire.queued(tasks)
    batch: Batch[Any] = Batch(None, request_id)
    return QueuedBatch(account, model, found, batch, polling=polling, options=options)
