"""One call and its observers. What an observer raises is logged and does not affect the call."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from attrs import define, evolve, field

from cfai._session.redaction import redact_whole_secrets
from cfai._validators import check_header
from cfai.errors import InputError
from cfai.observers import Call, Ending, Observation, Observer, Outcome, operation_of
from cfai.settings import Options, Retry, Settings
from cfai.tasks import Answer, Task, Token

_LOG: Final = logging.getLogger("cfai")

_PORTS: Final = {"http": 80, "https": 443}

# Headers for authentication, the gateway, the content and the connection.
_RESERVED_HEADERS: Final = re.compile(
    r"(?i)(?:proxy-)?authorization|x-auth-.*|cookie|cf-.*|x-session-affinity|accept(?:-.*)?"
    r"|user-agent|content-.*|host|connection|keep-alive|te|trailer|transfer-encoding|upgrade|expect"
)


@define(eq=False, repr=False)
class CallObservation:
    """Passes what happens in one call on to its observers. It starts once and ends once.

    If the call falls back to another model, that starts and ends in turn.
    """

    _observers: tuple[Observer, ...]
    _model: str = field(default="", init=False)
    _observations: list[Observation] = field(factory=list, init=False)
    _started: float | None = field(default=None, init=False)
    is_over: bool = field(default=False, init=False)
    """Whether the end was reported."""

    @property
    def _elapsed(self) -> float:
        return 0.0 if self._started is None else time.monotonic() - self._started

    def start(
        self, settings: Settings, model: str, task: Task[Any] | Mapping[str, Any], *, stream: bool
    ) -> None:
        """Report the start of a call to each observer, and keep the observations they return."""
        self._started = time.monotonic()
        self._model = model
        self.is_over = False
        address = urlsplit(settings.base_url)
        call = Call(
            operation_of(task),
            model,
            task,
            stream=stream,
            address=address.hostname or "",
            port=address.port or _PORTS[address.scheme],
            gateway=settings.gateway.id if settings.gateway else None,
            redact=lambda text: redact_whole_secrets(text, settings.secrets),
        )
        for observer in self._observers:
            with _log_errors(self._model, "the call's begin"):
                observation: object = observer(call)
                if isinstance(observation, Observation):
                    self._observations.append(observation)
                elif observation is not None:
                    kind = type(observation).__name__
                    raise TypeError(f"an observer must return an Observation or None, got a {kind}")

    def call_options(self, options: Options | None, settings: Settings) -> Options:
        """The call's options, with the observers' headers and their calls on each retry."""
        options = options or Options()
        retries = options.retries or settings.retries
        call_headers = options.headers or {}
        headers = self._collect_headers(
            {str(name).lower() for name in (*settings.headers, *call_headers)}
        )
        headers.update(call_headers)

        def on_retry(retry: Retry) -> None:
            for observation in self._observations:
                with _log_errors(self._model, "retried()"):
                    observation.retried(retry)
            if retries.on_retry is not None:
                retries.on_retry(retry)

        return evolve(options, retries=evolve(retries, on_retry=on_retry), headers=headers or None)

    def _collect_headers(self, taken: set[str]) -> dict[str, str]:
        """The observers' headers without those in *taken*. A later observer wins over an earlier.

        Names are compared in lower case.
        """
        headers: dict[str, tuple[str, str]] = {}
        for observation in self._observations:
            added: dict[str, str] = {}
            with _log_errors(self._model, "headers()"):
                added |= observation.headers()
            for name, value in added.items():
                with _log_errors(self._model, "headers()"):
                    check_header(name, value)
                    if _RESERVED_HEADERS.fullmatch(name):
                        raise InputError(f"an observer must not set the header {name}")
                    if name.lower() not in taken:
                        headers[name.lower()] = (name, value)
        return dict(headers.values())

    @contextmanager
    def running(self) -> Iterator[None]:
        """Enter the observers' contexts around the request."""
        entered: list[AbstractContextManager[object]] = []
        for observation in self._observations:
            with _log_errors(self._model, "running()"):
                manager = observation.running()
                manager.__enter__()
                entered.append(manager)
        try:
            yield
        finally:
            # Errors are reported by `ended`, so that no context manager can suppress them.
            for manager in reversed(entered):
                with _log_errors(self._model, "running()"):
                    manager.__exit__(None, None, None)

    def stream_began(self) -> None:
        """Report the first event of a stream."""
        seconds = self._elapsed
        for observation in self._observations:
            with _log_errors(self._model, "began()"):
                observation.began(seconds)

    def token(self, token: Token) -> None:
        """Report a token that the reader of a stream gets."""
        seconds = self._elapsed
        for observation in self._observations:
            with _log_errors(self._model, "token()"):
                observation.token(token, seconds)

    def fail(self, exc: BaseException, answer: Answer | None = None) -> None:
        """Report that *exc* ends the call."""
        cancelled = isinstance(exc, asyncio.CancelledError | GeneratorExit)
        self.end("cancelled" if cancelled else "failed", answer=answer, error=exc)

    def end(
        self, outcome: Outcome, *, answer: Answer | None = None, error: BaseException | None = None
    ) -> None:
        """Report the end of the call: once, and only if it started."""
        if self.is_over or self._started is None:
            return
        self.is_over = True
        ending = Ending(outcome=outcome, elapsed=self._elapsed, answer=answer, error=error)
        for observation in self._observations:
            with _log_errors(self._model, "ended()"):
                observation.ended(ending)
        self._observations.clear()


@contextmanager
def _log_errors(model: str, step: str) -> Iterator[None]:
    # Nothing inside awaits, so a `CancelledError` is raised by the observer itself.
    try:
        yield
    except (Exception, asyncio.CancelledError):
        _LOG.exception("an observer failed at %s of a call of %s", step, model)
