"""Where the fake's connections report and ask: what was received, what is open, what comes next."""

import asyncio
from collections.abc import Callable

from cfai.testing._connection import Connection, turn
from cfai.testing._record import Recorded
from cfai.testing._script import Reply, Script, complaint


class Desk:
    """The state of one fake, and its side of the talk with its connections."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.routes: dict[str, Script] = {}
        self.requests: list[Recorded] = []
        self.connections: set[Connection] = set()
        self.accepted = 0
        self.failures: list[Exception] = []
        self._pulse = asyncio.Event()

    def opened(self, connection: Connection) -> int:
        self.connections.add(connection)
        self.accepted += 1
        self.changed()
        return self.accepted

    def closed(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self.changed()

    def record(self, request: Recorded) -> None:
        self.requests.append(request)
        self.changed()

    def failed(self, error: Exception) -> None:
        self.failures.append(error)

    def choose(self, request: Recorded) -> Reply:
        routed = [script for path, script in self.routes.items() if path in request.target]
        for script in (*routed, self.script):
            reply = script.take()
            if reply is not None:
                return reply
        number = len(self.requests) + 1
        return complaint(
            f"nothing scripted for request {number}: {request.method} {request.target}"
        )

    def compute(self, reply: Reply, request: Recorded) -> Reply:
        if reply.compute is None:
            return reply
        try:
            return reply.compute(request)
        except Exception as error:
            self.failed(error)
            return complaint(f"the scripted function raised {error!r}")

    def changed(self) -> None:
        """Wake whoever waits in `until`."""
        self._pulse.set()
        self._pulse = asyncio.Event()

    async def until(self, condition: Callable[[], object], within: float) -> None:
        try:
            async with asyncio.timeout(within):
                while not condition():
                    await self._pulse.wait()
            await turn()
        except TimeoutError:
            seen = f"{len(self.connections)} connections open, {len(self.requests)} requests in"
            raise TimeoutError(f"it did not come to that within {within:g} s: {seen}") from None
