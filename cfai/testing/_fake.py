"""The fake itself: a listening socket, and what a test sees of what happens behind it."""

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from cfai.testing._connection import Connection
from cfai.testing._desk import Desk
from cfai.testing._record import Recorded
from cfai.testing._script import HangUp, Script
from cfai.testing._simulation import Service, Simulation
from cfai.workers_ai import WorkersAI


class FakeWorkersAI(Script):
    """A Workers AI on the loopback that says what a test scripts, and remembers what it was asked.

    Replies are said in the order they were scripted. A request that nothing was scripted for is
    answered with status 500 and code 90002, and the message names it.

    ```python
    async with FakeWorkersAI() as fake:
        fake.fails(429, 3040, "Capacity temporarily exceeded, please try again.")
        fake.answers({"response": "Hello"})
        answer = await fake.client().run(model, Prompt("Hi"))
        assert answer.text == "Hello"
        assert fake.requests[0].json() == {"prompt": "Hi"}
    ```

    Leaving the `async with` closes the clients it handed out, every connection and the server.
    """

    def __init__(self) -> None:
        super().__init__()
        self._desk = Desk(self)
        self._clients: list[WorkersAI] = []
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self._desk), "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()
        if self._desk.failures and error is None:
            raise self._desk.failures[0]

    async def aclose(self) -> None:
        """Close the clients handed out, every connection and the server; twice is fine."""
        while self._clients:
            await self._clients.pop().aclose()
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        tasks = [connection.task for connection in self._desk.connections]
        for connection in self._desk.connections:
            connection.abort()
        await self.until(lambda: self.connections == 0)
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()

    # Where it is, and who talks to it...

    @property
    def port(self) -> int:
        """The port on 127.0.0.1, another one every time."""
        if self._server is None:
            raise RuntimeError("the fake listens only inside its `async with`")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def origin(self) -> str:
        """Where it listens, `http://127.0.0.1:PORT`: also an address for a client's `proxy`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """What a client takes as its `base_url`."""
        return f"{self.origin}/client/v4"

    def client(self, **options: Any) -> WorkersAI:
        """A real client of this server, closed with it.

        Args:
            options: Arguments of `WorkersAI`. Unless given: `account_id="account"`,
                `api_token="fake-api-token"` and this server as `base_url`.
        """
        known = {"account_id": "account", "api_token": "fake-api-token", "base_url": self.base_url}
        client = WorkersAI(**(known | options))
        self._clients.append(client)
        return client

    # Scripting beyond the one queue, and acting at once...

    def on(self, path: str) -> Script:
        """A script of its own for the requests whose target contains *path*.

        The first route that fits and has something to say is asked before the fake's own script.
        """
        return self._desk.routes.setdefault(path, Script())

    def simulates(self, service: Service, *, remembers: bool = True) -> Simulation:
        """Embed from now on whatever nothing else is scripted for, as *service* says.

        Args:
            service: How the service behaves.
            remembers: Whether it counts how often it answered each text.
        """
        simulation = Simulation(service, asyncio.get_running_loop().time, remembers=remembers)
        self.always.answers_by(simulation.reply)
        return simulation

    async def drops_connections(self, how: HangUp = True) -> None:
        """Close every open connection now, idle ones too; `"reset"` breaks them off with an RST.

        A client on the same event loop has heard of it when this returns.
        """
        dropped = set(self._desk.connections)
        for connection in dropped:
            connection.hang_up(how)
        await self.until(lambda: not dropped & self._desk.connections)

    # What happened...

    @property
    def requests(self) -> Sequence[Recorded]:
        """Every request that is in, in order; still growing."""
        return self._desk.requests

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        return len(self._desk.connections)

    @property
    def accepted(self) -> int:
        """How many connections were ever accepted."""
        return self._desk.accepted

    async def until(self, condition: Callable[[], object], *, within: float = 10) -> None:
        """Wait until *condition* holds: `await fake.until(lambda: fake.connections == 0)`.

        It is asked again whenever a connection opens or closes and whenever a request is in or
        answered; nothing polls. A client on the same event loop has heard of it, too, on return.

        Raises:
            TimeoutError: It did not hold within *within* seconds.
        """
        await self._desk.until(condition, within)
