"""The WHATWG standard on event streams, implemented literally, to compare the SDK with.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

import re
from typing import NamedTuple


class Event(NamedTuple):
    """One dispatched event."""

    data: str
    event: str = "message"
    id: str = ""
    retry: int | None = None


class _Reader:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.data = self.type = self.id = ""
        self.retry: int | None = None

    def line(self, line: str) -> None:
        if not line:
            self.dispatch()
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            self.field(name, value.removeprefix(" "))

    def field(self, name: str, value: str) -> None:
        if name == "event":
            self.type = value
        elif name == "data":
            self.data += value + "\n"
        elif name == "id" and "\0" not in value:
            self.id = value
        elif name == "retry" and re.fullmatch("[0-9]+", value):
            self.retry = int(value)

    def dispatch(self) -> None:
        if self.data:
            # A reconnection time is in force from where it stands; it is told with the next event.
            heard = Event(self.data[:-1], self.type or "message", self.id, self.retry)
            self.events.append(heard)
            self.retry = None
        self.data = self.type = ""


def decode(stream: bytes) -> list[Event]:
    """The events of a whole stream.

    One deviation, on purpose: an event that the end of the stream cuts off is delivered.
    """
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    reader = _Reader()
    for line in re.split("\r\n|\n|\r", text):
        reader.line(line)
    reader.dispatch()
    return reader.events
