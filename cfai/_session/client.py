"""`Client`: the base of all clients."""

from collections.abc import Awaitable, Callable
from copy import deepcopy
from functools import wraps
from typing import Any, NoReturn, Self, TypeVar, cast

from attrs import evolve

from cfai._session.account import Account
from cfai._session.redaction import redact_error
from cfai._session.session import Session
from cfai.errors import ParseError
from cfai.settings import Settings

M = TypeVar("M", bound=Callable[..., Awaitable[Any]])


class Client:
    """A client with settings and a session. Use it in `async with`, or close it with `aclose`.

    A copy (`copy.copy`) shares the connections and does not close them. A deep copy has the same
    settings, credentials and budget, and opens its own connections. A client cannot be pickled.
    """

    _account: Account
    _settings: Settings
    _session: Session
    _owns_connections: bool
    """Whether closing the client closes the connections."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._settings.base_url}>"

    def __copy__(self) -> Self:
        return self._copy(self._account, owns_connections=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        account = evolve(self._account, session=deepcopy(self._session, memo))
        return self._copy(account, owns_connections=True)

    def __reduce__(self) -> NoReturn:
        name = type(self).__name__
        raise TypeError(
            f"a {name} can't be pickled, because it has connections and credentials:"
            f" create a {name} in the other process"
        )

    def _copy(self, account: Account, *, owns_connections: bool) -> Self:
        """A client with the same attributes and another account."""
        copied = object.__new__(type(self))
        vars(copied).update(vars(self))
        copied._account, copied._owns_connections = account, owns_connections
        copied._settings, copied._session = account.settings, account.session
        return copied

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections, unless they belong to another client. Safe to repeat."""
        if self._owns_connections:
            await self._session.connections.aclose()

    close = aclose


def redact_parse_errors(method: M) -> M:
    """Remove secrets from the `ParseError` of a method, whose complete answer the session passed.

    The answer's metadata are headers, in which the service may repeat the secrets.
    """

    @wraps(method)
    async def call(self: Client, *args: Any, **kwargs: Any) -> Any:
        try:
            return await method(self, *args, **kwargs)
        except ParseError as exc:
            redact_error(exc, self._settings.for_call(kwargs.get("options")).secrets)
            raise

    return cast("M", call)
