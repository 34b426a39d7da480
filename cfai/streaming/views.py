"""Two views of a token stream: its texts alone, and its events as they were sent.

They are no generators: one that is left unfinished would outlive its stream.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Self

from cfai.streaming.events import Event, as_sse
from cfai.tasks import Token

if TYPE_CHECKING:
    from httpx_sse import ServerSentEvent


class Texts:
    """The pieces of text alone, as strings."""

    def __init__(self, tokens: AsyncIterator[Token]) -> None:
        self._tokens = tokens

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        while True:
            token = await anext(self._tokens)
            if token.text:
                return token.text


class RawEvents:
    """The events as they were sent, in httpx-sse's class."""

    def __init__(self, next_event: Callable[[], Awaitable[bytes | Event | None]]) -> None:
        self._next_event = next_event

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ServerSentEvent:
        event = await self._next_event()
        if event is None:
            raise StopAsyncIteration
        return as_sse(event)
