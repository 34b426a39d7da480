"""`FakeWorkersAI`: a scripted server on the loopback, and what a test can observe of it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from threading import Thread
from typing import Any, Self, TypedDict, TypeVar

from cfai._types.excerpts import format_count
from cfai.testing._connection import POLL_SECONDS, Connection, FakeState, yield_to_client
from cfai.testing._recorded import HangUp, Recorded
from cfai.testing._script import Script
from cfai.testing._simulation import Service, Simulation
from cfai.testing._sockets import FakeSocket
from cfai.workers_ai import WorkersAI

T = TypeVar("T")


class Credentials(TypedDict):
    """The arguments of a client that every account needs."""

    account_id: str
    api_token: str
    base_url: str


class _Done:
    """What was done already; awaiting it returns at once."""

    def __await__(self) -> Generator[Any, None, None]:
        yield from ()


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

    In a plain `with`, for tests without an event loop, the fake runs in a thread of its own. Its
    methods are the same; those that are awaited in an `async with` return when they are done
    (`until` has to be awaited on an event loop).
    """

    def __init__(self) -> None:
        super().__init__()
        self._state = FakeState(self)
        self._clients: list[WorkersAI] = []
        self._server: asyncio.Server | None = None
        self._thread: _LoopThread | None = None
        """The thread of a plain `with`."""

    async def __aenter__(self) -> Self:
        if self._server is not None:
            raise RuntimeError("the fake is listening already: create another one")
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self._state), "127.0.0.1", 0)
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        await self._aclose()
        self._raise_error_of_script(error)

    def __enter__(self) -> Self:
        thread = _LoopThread()
        try:
            thread.run(self.__aenter__)
        except BaseException:
            thread.stop()
            raise
        self._thread, self._state.has_thread = thread, True
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self._thread is None:
            raise RuntimeError("the fake was not entered by a plain `with`")
        try:
            self._thread.run(self._aclose)
        finally:
            self._thread.stop()
            self._thread = None
        self._raise_error_of_script(error)

    def _raise_error_of_script(self, error: object) -> None:
        if self._state.errors and error is None:
            raise self._state.errors[0]

    def _do(self, work: Callable[[], Coroutine[Any, Any, None]]) -> Awaitable[None]:
        """Do *work* now if the fake has a thread, or else when the result is awaited."""
        if self._thread is None:
            return work()
        self._thread.run(work)
        return _Done()

    def aclose(self) -> Awaitable[None]:
        """Close the clients it created, every connection and the server. Safe to repeat."""
        return self._do(self._aclose)

    async def _aclose(self) -> None:
        while self._clients:
            await self._clients.pop().aclose()
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        tasks = [connection.task for connection in self._state.connections]
        for connection in self._state.connections:
            connection.abort()
        await self._wait_until(lambda: self.connections == 0, within=10)
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()

    # Address and clients

    @property
    def port(self) -> int:
        """The port on 127.0.0.1; a different one for each fake."""
        if self._server is None:
            raise RuntimeError("the fake is not listening: use it inside its `with`")
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

    @property
    def credentials(self) -> Credentials:
        """The arguments for a client that your program creates: `WorkersAI(**fake.credentials)`."""
        return {
            "account_id": "account",
            "api_token": "fake-api-token",
            "base_url": self.base_url,
        }

    @property
    def environment(self) -> dict[str, str]:
        """The same as environment variables, for a program that creates `WorkersAI()`."""
        return {f"CLOUDFLARE_{name.upper()}": str(text) for name, text in self.credentials.items()}

    def client(self, **options: Any) -> WorkersAI:
        """Create a real client of this server. The fake closes it.

        Args:
            options: Arguments of `WorkersAI`. The defaults are `credentials`.
        """
        client = WorkersAI(**{**self.credentials, **options})
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
        loop = asyncio.get_running_loop() if self._thread is None else self._thread.loop
        simulation = Simulation(service, loop.time, remembers=remembers)
        self.always.answers_by(simulation.reply)
        return simulation

    def drops_connections(self, how: HangUp = True) -> Awaitable[None]:
        """Close every open connection now, including idle ones; `"reset"` sends an RST.

        A client on the same event loop has been notified when this returns.
        """

        async def drop() -> None:
            dropped = set(self._state.connections)
            for connection in dropped:
                connection.hang_up(how)
            await self._wait_until(lambda: not dropped & self._state.connections, within=10)

        return self._do(drop)

    # Observations

    @property
    def requests(self) -> Sequence[Recorded]:
        """Every request received so far, in order. The sequence grows."""
        return self._state.requests

    @property
    def sockets(self) -> Sequence[FakeSocket]:
        """Every WebSocket that a client opened, in order. The sequence grows."""
        return self._state.sockets

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._state.connections)

    @property
    def accepted(self) -> int:
        """The number of connections accepted so far."""
        return self._state.accepted

    def until(self, condition: Callable[[], object], *, within: float = 10) -> Awaitable[None]:
        """Wait until *condition* holds: `await fake.until(lambda: fake.connections == 0)`.

        The condition may be about the fake or about anything else, such as the state of your app.
        It is checked at once whenever a connection opens or closes and whenever a request was
        received or answered, and otherwise every 5 ms. A client on the same event loop has been
        notified, too, when this returns.

        Raises:
            TimeoutError: The condition did not hold within *within* seconds.
        """
        if self._thread is None or _running_loop() is not None:
            return self._wait_until(condition, within=within)
        # It is checked in the calling thread, whose connection to a database it may use.
        deadline = time.monotonic() + within
        while not condition():
            if time.monotonic() > deadline:
                raise self._timeout_error(within)
            self._thread.run(self._wait_for_change)
        return _Done()

    async def _wait_until(self, condition: Callable[[], object], *, within: float) -> None:
        try:
            async with asyncio.timeout(within):
                while not condition():
                    await self._wait_for_change()
            await yield_to_client()
        except TimeoutError:
            raise self._timeout_error(within) from None

    async def _wait_for_change(self) -> None:
        """Wait for a change of the fake, or for 5 ms."""
        if self._thread is not None and _running_loop() is not self._thread.loop:
            change = asyncio.run_coroutine_threadsafe(self._wait_for_change(), self._thread.loop)
            await asyncio.wrap_future(change)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(POLL_SECONDS):
                await self._state.changed.wait()

    def _timeout_error(self, seconds: float) -> TimeoutError:
        connections = format_count(self.connections, "open connection")
        counts = f"{connections}, {format_count(len(self.requests), 'request')}"
        return TimeoutError(f"the condition is false after {seconds:g} s: {counts}")


def _running_loop() -> asyncio.AbstractEventLoop | None:
    with suppress(RuntimeError):
        return asyncio.get_running_loop()
    return None


class _LoopThread:
    """An event loop on a thread of its own, for a fake in tests that have no event loop.

    Other threads wait for the coroutines that it runs.
    """

    def __init__(self) -> None:
        started: Future[asyncio.AbstractEventLoop] = Future()
        # A test that is interrupted must not keep the interpreter from ending.
        self._thread = Thread(target=_serve, args=(started,), name="cfai-fake", daemon=True)
        self._thread.start()
        self.loop: asyncio.AbstractEventLoop = started.result()

    def run(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Call an async function on the loop, and return its result."""
        return asyncio.run_coroutine_threadsafe(function(), self.loop).result()

    def stop(self) -> None:
        """End the loop and the thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()


def _serve(started: Future[asyncio.AbstractEventLoop]) -> None:
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        started.set_result(loop)
        loop.run_forever()
