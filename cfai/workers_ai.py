"""`WorkersAI`: the client of Cloudflare Workers AI."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from typing import TYPE_CHECKING, Any, Self

from attrs import evolve

from cfai._calls import Calls
from cfai._runs import Runs
from cfai._session.connections import Connections
from cfai._session.credentials import resolve_credentials, resolve_settings
from cfai._session.limits import Concurrency
from cfai._session.session import Session
from cfai._validators import check_at_least
from cfai.errors import InputError
from cfai.resources.services import Services
from cfai.settings import (
    DEFAULT_RETRIES,
    DEFAULT_TIMEOUTS,
    UNSET,
    Gateway,
    Options,
    Retries,
    Timeouts,
    Unset,
    as_gateway,
)

if TYPE_CHECKING:
    import aiohttp

    from cfai.observers import Observer

__all__ = [
    "WorkersAI",
]


class WorkersAI(Runs, Services):
    """A client of Workers AI for one account.

    Make one for the whole program and share it: over tasks, event loops and threads. Making it
    costs nothing and connects to nothing; connections are made when first needed, and kept.

    ```python
    async with WorkersAI() as ai:
        answer = await ai.run("@cf/meta/llama-3.1-8b-instruct", Prompt("Why is the sky blue?"))
    ```
    """

    def __init__(  # noqa: PLR0913  # everything that a client can be told
        self,
        *,
        account_id: str | None = None,
        api_token: str | None = None,
        api_email: str | None = None,
        api_key: str | None = None,
        base_url: str | None = None,
        gateway: Gateway | str | None = None,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        retries: Retries = DEFAULT_RETRIES,
        limit: int = 100,
        concurrency: Concurrency = None,
        headers: Mapping[str, str] | None = None,
        proxy: str | None = None,
        session: aiohttp.ClientSession | None = None,
        max_answer_bytes: int = 256 * 2**20,
        max_event_bytes: int = 16 * 2**20,
        allow_insecure: bool = False,
        observers: Iterable[Observer] = (),
    ) -> None:
        """Make a client. What is left out is read from the environment, here and only here.

        Args:
            account_id: 32 hexadecimal digits; else `CLOUDFLARE_ACCOUNT_ID`.
            api_token: Wins over email and key; else `CLOUDFLARE_API_TOKEN`.
            api_email: Of the previous scheme, with *api_key*; else `CLOUDFLARE_EMAIL`.
            api_key: The global API key; else `CLOUDFLARE_API_KEY`.
            base_url: Where the API is; else `CLOUDFLARE_BASE_URL`, else Cloudflare's own.
            gateway: The AI Gateway to go through, or its id; else `CLOUDFLARE_GATEWAY_ID`.
            timeouts: Time limits of every call.
            retries: When failed attempts are repeated.
            limit: How many requests may be under way at once, on each event loop.
            concurrency: How many attempts of one model may be under way at once, on each event
                loop: a number, or an `Adaptive` limit that falls when the service refuses (429).
                Those of jobs are among them. A stream counts until its first event.
            headers: Sent with every request.
            proxy: The address of a proxy; else what the environment names (`HTTPS_PROXY`, …).
            session: An aiohttp session to use instead of our own. It is never closed by us.
            max_answer_bytes: The largest answer that is read, decompressed; streams excepted.
            max_event_bytes: The largest event of a stream that is read.
            allow_insecure: Send credentials over plain http to other machines, too.
            observers: Told of each run: when it begins, what is repeated, what comes and how it
                ends; `cfai.telemetry.spans()` for one (see `cfai.observers`).

        Raises:
            ConfigError: The account or the credentials are missing or can't work.
        """
        check_at_least("limit", limit, 1)
        self._settings = resolve_settings(
            account_id=account_id,
            credentials=resolve_credentials(api_token, api_email, api_key),
            base_url=base_url,
            gateway=gateway,
            allow_insecure=allow_insecure,
            timeouts=timeouts,
            retries=retries,
            headers=headers,
            proxy=proxy,
            use_environment_proxy=session is None,
            max_answer_bytes=max_answer_bytes,
            max_event_bytes=max_event_bytes,
        )
        connections = Connections(limit=limit, session=session, concurrency=concurrency)
        self._adopt(connections, _checked(observers), owns=True)

    def _adopt(
        self, connections: Connections, observers: tuple[Observer, ...], *, owns: bool
    ) -> None:
        self._session, self._owns = Session(connections), owns
        self._observers = observers
        if observers:
            from cfai._observed import ObservedCalls

            self._calls = ObservedCalls(self._session, self._settings, observers)
        else:
            self._calls = Calls(self._session, self._settings)

    def with_options(
        self,
        *,
        timeouts: Timeouts | None = None,
        retries: Retries | None = None,
        headers: Mapping[str, str] | None = None,
        gateway: Gateway | str | Unset | None = UNSET,
        account_id: str | None = None,
        api_token: str | None = None,
        observers: Iterable[Observer] | None = None,
    ) -> Self:
        """A copy that differs in what is given. It shares the connections, and does not close them.

        Args:
            timeouts: In place of the client's own.
            retries: In place of the client's own.
            headers: Added to the client's own.
            gateway: Another AI Gateway; `None` goes through none.
            account_id: Another account.
            api_token: Another token.
            observers: In place of the client's own.
        """
        changes: dict[str, Any] = {"timeouts": timeouts, "retries": retries}
        changes["account_id"] = account_id
        changes["credentials"] = None if api_token is None else resolve_credentials(api_token)
        if headers is not None:
            added = Options(headers=headers).headers or {}
            changes["headers"] = {**self._settings.headers, **added}
        changes = {name: value for name, value in changes.items() if value is not None}
        if gateway is not UNSET:
            changes["gateway"] = as_gateway(gateway)
        changed = copy(self)
        changed._settings = evolve(self._settings, **changes)
        observed = self._observers if observers is None else _checked(observers)
        changed._adopt(self._session.connections, observed, owns=False)
        return changed


def _checked(observers: Iterable[Observer]) -> tuple[Observer, ...]:
    """Observers that can be called, and that later changes of a list don't touch."""
    try:
        told = tuple(observers)
    except TypeError as exc:
        raise InputError(f"observers must be several, got {observers!r:.60}") from exc
    for one in told:
        if not callable(one):
            raise InputError(f"an observer must be something to call, got {one!r:.60}")
    return told
