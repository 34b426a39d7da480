"""What the fake saw: one value per request, as it stood on the wire."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl

from attrs import define, field, frozen


@frozen
class Headers(Mapping[str, str]):
    """The headers of one request, in the order they came; names are compared without case.

    A name that came twice has its first value in the mapping and all of them in `all`.
    """

    pairs: tuple[tuple[str, str], ...]
    """Name and value of every line, spelled as the client spelled them."""

    def all(self, name: str) -> list[str]:
        """Every value of *name*, in order; empty when it was not sent."""
        wanted = name.lower()
        return [value for key, value in self.pairs if key.lower() == wanted]

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
    """One request that reached the fake."""

    method: str
    """As sent: `POST`, `GET`, or `CONNECT` when the fake is used as a proxy."""

    target: str
    """The raw target of the request line: the path with its query, still percent-encoded."""

    headers: Headers
    connection: int
    """Which connection carried it: 1 is the first that the fake accepted."""

    body: bytes = field(default=b"", repr=False)
    """The whole body, with any chunking of the transfer undone and any compression kept."""

    answered: asyncio.Event = field(factory=asyncio.Event, repr=False)
    """Set when the last byte of the reply has been written."""

    gone: asyncio.Event = field(factory=asyncio.Event, repr=False)
    """Set when the connection it came on has closed, whichever side closed it.

    A client that leaves a stream early sets this and leaves `answered` unset.
    """

    @property
    def path(self) -> str:
        """The target without its query, still percent-encoded."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        """The decoded query; of a name that came twice, the last value."""
        return dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True))

    def json(self) -> Any:
        """The body decoded as JSON.

        Raises:
            ValueError: The body is not JSON.
        """
        return json.loads(self.body)
