"""What the fake records of a request, and the words of its scripts."""

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Literal
from urllib.parse import parse_qsl

from attrs import define, field, frozen

Delay = float | asyncio.Event | threading.Event
"""Seconds to pause, or an event to wait for."""

Part = bytes | str | Delay
"""Part of a reply: bytes or text (sent as UTF-8), seconds to pause, or an event to wait for."""

SocketStep = str | bytes | Mapping[str, Any] | Delay
"""Part of a script of a WebSocket: a text message, a binary one, JSON, or a pause."""

HangUp = bool | Literal["reset"]
"""`True` closes the connection (FIN), `"reset"` resets it (RST), `False` keeps it open."""


@frozen
class Headers(Mapping[str, str]):
    """The headers of one request, in the order received. Names are case-insensitive.

    If a name was sent twice, the mapping has its first value, and `all` returns every value.
    """

    pairs: tuple[tuple[str, str], ...]
    """Name and value of every header line, exactly as the client sent them."""

    def all(self, name: str) -> list[str]:
        """Return every value of *name*, in order; an empty list if it was not sent."""
        name = name.lower()
        return [value for key, value in self.pairs if key.lower() == name]

    def __getitem__(self, name: str) -> str:
        values = self.all(name)
        if not values:
            raise KeyError(name)
        return values[0]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name.lower() for name, _ in self.pairs))

    def __len__(self) -> int:
        return len({name.lower() for name, _ in self.pairs})


@define(eq=False)
class Recorded:
    """One request that the fake received."""

    method: str
    """The method as sent: `POST`, `GET`, or `CONNECT` if the fake is used as a proxy."""

    target: str
    """The raw target of the request line: path and query, percent-encoded."""

    headers: Headers
    connection: int
    """The number of its connection; the first that the fake accepted is 1."""

    body: bytes = field(default=b"", repr=False)
    """The body, after decoding chunked transfer encoding; compression is left as sent."""

    answered: asyncio.Event = field(factory=asyncio.Event, repr=False)
    """Set when the last byte of the reply has been written."""

    gone: asyncio.Event = field(factory=asyncio.Event, repr=False)
    """Set when its connection has closed, by either side.

    If the client leaves a stream early, this is set and `answered` is not.
    """

    @property
    def path(self) -> str:
        """The target without its query, percent-encoded."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        """The decoded query. If a name was sent twice, its last value."""
        return dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True))

    def json(self) -> Any:
        """Decode the body as JSON.

        Raises:
            ValueError: The body is not JSON.
        """
        return json.loads(self.body)
