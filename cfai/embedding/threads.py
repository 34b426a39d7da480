"""Blocking work in a thread, which always finishes before its caller goes on."""

import asyncio
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


async def run_in_thread(function: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
    """Call *function* in a thread and return its result.

    A cancelled caller still waits for the thread: otherwise a file that the thread uses could be
    closed, or read by others, in the meantime.
    """
    # A future of the executor, not a task: cancelling all tasks does not detach it.
    future = asyncio.get_running_loop().run_in_executor(None, function, *arguments)
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as exc:
            cancelled = exc
    if cancelled is None:
        return future.result()
    error = future.exception()
    if error is not None:
        cancelled.add_note(f"the work in progress failed: {error}")
    raise cancelled
