"""Work in threads that nobody leaves behind."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def to_its_end(work: Callable[[], T]) -> T:
    """Give what *work* gives, done in a thread.

    Whoever waits isn't let go before it ended, even where cancelled: what it works on may be closed
    then, and read by others.
    """
    # No task: cancelling all tasks would part it from its thread.
    thread = asyncio.get_running_loop().run_in_executor(None, work)
    cancelled: asyncio.CancelledError | None = None
    while not thread.done():
        try:
            await asyncio.wait([thread])
        except asyncio.CancelledError as exc:
            cancelled = exc
    if cancelled is None:
        return thread.result()
    failure = thread.exception()
    if failure is not None:
        cancelled.add_note(f"what was under way failed: {failure}")
    raise cancelled
