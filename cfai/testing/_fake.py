"""`FakeWorkersAI`: a scripted server on the loopback, and what a test can observe of it."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Self

from cfai.testing._connection import Connection, FakeState, yield_to_client
from cfai.testing._script import HangUp, Recorded, Script
from cfai.testing._simulation import Service, Simulation
from cfai.workers_ai import WorkersAI


class FakeWorkersAI(Script):
    """A Workers AI server on the loopback that sends scripted replies and records requests.

    Replies are sent in the order they were scripted. A request without a scripted reply is
    answered with status 500 and code 90002; the message names the request.

    ```python
    async with FakeWorkersAI() as fake:
        fake.fails(429, 3040, "Capacity temporarily exceeded, please try again.")
        fake.answers({"response": "Hello"})
        answer = await fake.client().run(model, Prompt("Hi"))
        assert answer.text == "Hello"
        assert fake.requests[0].json() == {"prompt": "Hi"}
    ```

    Leaving the `async with` closes the clients it created, every connection and the server.
    """

    def __init__(self) -> None:
        super().__init__()
        self._state = FakeState(self)
        self._clients: list[WorkersAI] = []
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self._state), "127.0.0.1", 0)
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        await self.aclose()
        if self._state.errors and error is None:
            raise self._state.errors[0]

    async def aclose(self) -> None:
        """Close the clients it created, every connection and the server. Safe to repeat."""
        while self._clients:
            await self._clients.pop().aclose()
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        tasks = [connection.task for connection in self._state.connections]
        for connection in self._state.connections:
            connection.abort()
        await self.until(lambda: self.connections == 0)
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()

    # Address and clients

    @property
    def port(self) -> int:
        """The port on 127.0.0.1; a different one for each fake."""
        if self._server is None:
            raise RuntimeError("the fake is not listening: use it inside its `async with`")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def origin(self) -> str:
        """The server's address, `http://127.0.0.1:PORT`. It also works as a client's `proxy`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """The `base_url` for a client."""
        return f"{self.origin}/client/v4"

    def client(self, **options: Any) -> WorkersAI:
        """Create a real client of this server. The fake closes it.

        Args:
            options: Arguments of `WorkersAI`. Defaults: `account_id="account"`,
                `api_token="fake-api-token"` and this server as `base_url`.
        """
        defaults = {"account_id": "account", "api_token": "fake-api-token"}
        client = WorkersAI(**(defaults | {"base_url": self.base_url} | options))
        self._clients.append(client)
        return client

    # More scripts, and immediate actions

    def on(self, path: str) -> Script:
        """Return the script for requests whose target contains *path*.

        The first matching route with a reply takes precedence over the fake's own script.
        """
        return self._state.routes.setdefault(path, Script())

    def simulates(self, service: Service, *, remembers: bool = True) -> Simulation:
        """Answer every request without a scripted reply like the simulated *service*.

        Args:
            service: How the service behaves.
            remembers: Whether to count how often each text was answered.
        """
        simulation = Simulation(service, asyncio.get_running_loop().time, remembers=remembers)
        self.always.answers_by(simulation.reply)
        return simulation

    async def drops_connections(self, how: HangUp = True) -> None:
        """Close every open connection now, including idle ones; `"reset"` sends an RST.

        A client on the same event loop has been notified when this returns.
        """
        dropped = set(self._state.connections)
        for connection in dropped:
            connection.hang_up(how)
        await self.until(lambda: not dropped & self._state.connections)

    # Observations

    @property
    def requests(self) -> Sequence[Recorded]:
        """Every request received so far, in order. The sequence grows."""
        return self._state.requests

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._state.connections)

    @property
    def accepted(self) -> int:
        """The number of connections accepted so far."""
        return self._state.accepted

    async def until(self, condition: Callable[[], object], *, within: float = 10) -> None:
        """Wait until *condition* holds: `await fake.until(lambda: fake.connections == 0)`.

        The condition is checked whenever a connection opens or closes and whenever a request was
        received or answered; it is not polled. A client on the same event loop has been notified,
        too, when this returns.

        Raises:
            TimeoutError: The condition did not hold within *within* seconds.
        """
        try:
            async with asyncio.timeout(within):
                while not condition():
                    await self._state.changed.wait()
            await yield_to_client()
        except TimeoutError:
            counts = f"{self.connections} open connections, {len(self.requests)} requests"
            raise TimeoutError(f"the condition is false after {within:g} s: {counts}") from None
