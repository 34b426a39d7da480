"""One call and all who observe it: what they raise is logged, and never reaches the call."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

from attrs import evolve

from cfai._wire.requests import check_header
from cfai.errors import InputError
from cfai.observers import Call, Ending, Observation, Observer, Outcome
from cfai.settings import Options, Retries, Retry, Settings
from cfai.tasks import Answer, Token

_LOG: Final = logging.getLogger("cfai")

# Who asks, through which gateway, what is sent and wanted, and what belongs to the connection.
_RESERVED: Final = re.compile(
    r"(?i)(?:proxy-)?authorization|x-auth-.*|cookie|cf-.*|x-session-affinity|accept(?:-.*)?"
    r"|user-agent|content-.*|host|connection|keep-alive|te|trailer|transfer-encoding|upgrade|expect"
)


class Watch:
    """Tells the observers of one call what happens. It begins once, and ends once."""

    __slots__ = ("_model", "_observations", "_observers", "_over", "_started")

    def __init__(self, observers: tuple[Observer, ...]) -> None:
        self._observers = observers
        self._model = ""
        self._observations: list[Observation] = []
        self._started: float | None = None
        self._over = False

    @property
    def _elapsed(self) -> float:
        return 0.0 if self._started is None else time.monotonic() - self._started

    def begin(self, call: Call) -> None:
        """The call begins: ask who wants to hear of it."""
        self._started = time.monotonic()
        self._model = call.model
        for observer in self._observers:
            with _guarded(self._model, "the call's begin"):
                observation: object = observer(call)
                if isinstance(observation, Observation):
                    self._observations.append(observation)
                elif observation is not None:
                    kind = type(observation).__name__
                    raise TypeError(f"an observer must give an Observation or None, got a {kind}")

    def options(self, options: Options | None, settings: Settings) -> Options:
        """The call's options, with the observers' headers, and with their ears at each retry."""
        options = Options() if options is None else options
        retries = settings.retries if options.retries is None else options.retries
        own = options.headers or {}
        headers = self._headers({str(name).lower() for name in (*settings.headers, *own)})
        return evolve(options, retries=self._heard(retries), headers={**headers, **own} or None)

    def _headers(self, taken: set[str]) -> dict[str, str]:
        """What the observers add, without what is *taken*: of two with one name, the later's."""
        headers: dict[str, tuple[str, str]] = {}
        for one in self._observations:
            own: dict[str, str] = {}
            with _guarded(self._model, "headers()"):
                own |= one.headers()
            for name, value in own.items():
                with _guarded(self._model, "headers()"):
                    check_header(name, value)
                    if _RESERVED.fullmatch(name):
                        raise InputError(f"an observer must not set the header {name}")
                    if name.lower() not in taken:
                        headers[name.lower()] = (name, value)
        return dict(headers.values())

    def _heard(self, retries: Retries) -> Retries:
        on_retry = retries.on_retry

        def heard(retry: Retry) -> None:
            self._tell(lambda one: one.retried(retry), "retried()")
            if on_retry is not None:
                on_retry(retry)

        return evolve(retries, on_retry=heard)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Around the part of the call in which the request is made."""
        entered: list[AbstractContextManager[object]] = []
        for one in self._observations:
            with _guarded(self._model, "running()"):
                manager = one.running()
                manager.__enter__()
                entered.append(manager)
        try:
            yield
        finally:
            # They learn how the call ended from `ended`, so that none can change how it ends.
            for manager in reversed(entered):
                with _guarded(self._model, "running()"):
                    manager.__exit__(None, None, None)

    def began(self) -> None:
        """The first event of a stream is there."""
        seconds = self._elapsed
        self._tell(lambda one: one.began(seconds), "began()")

    def token(self, token: Token) -> None:
        """The reader of a stream is given a token."""
        seconds = self._elapsed
        self._tell(lambda one: one.token(token, seconds), "token()")

    def raised(self, exc: BaseException, answer: Answer | None = None) -> None:
        """The call ends, because of *exc*."""
        outcome: Outcome = "failed"
        if isinstance(exc, asyncio.CancelledError | GeneratorExit):
            outcome = "cancelled"
        self.ended(outcome, answer=answer, error=exc)

    def ended(
        self,
        outcome: Outcome,
        *,
        answer: Answer | None = None,
        error: BaseException | None = None,
    ) -> None:
        """The call ends. Only the first time counts; one that never began has no end."""
        if self._over or self._started is None:
            return
        self._over = True
        ending = Ending(outcome=outcome, elapsed=self._elapsed, answer=answer, error=error)
        self._tell(lambda one: one.ended(ending), "ended()")
        self._observations.clear()

    @property
    def over(self) -> bool:
        """Whether there is nothing more to tell."""
        return self._over

    def _tell(self, say: Callable[[Observation], Any], moment: str) -> None:
        for one in self._observations:
            with _guarded(self._model, moment):
                say(one)


@contextmanager
def _guarded(model: str, moment: str) -> Iterator[None]:
    # What is guarded waits for nothing, so that a cancellation is the observer's own doing, too.
    try:
        yield
    except (Exception, asyncio.CancelledError):
        _LOG.exception("an observer failed at %s of a call of %s", moment, model)
