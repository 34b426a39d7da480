"""`Client`: the base of all clients, and `Account`, what its resources send requests with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from copy import deepcopy
from functools import wraps
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar, cast

from attrs import evolve, frozen

from cfai._session.redaction import redact_error
from cfai._session.session import Session, Spending
from cfai._types.values import Value
from cfai._wire.errors import read_document
from cfai._wire.requests import Request, build_get_request
from cfai._wire.responses import Response
from cfai.errors import ParseError
from cfai.settings import Options, Settings

if TYPE_CHECKING:
    from cfai._session.pagination import Pager
    from cfai._wire.pagination import Cursor, ListPage

M = TypeVar("M", bound=Callable[..., Awaitable[Any]])
R = TypeVar("R")
T = TypeVar("T")


@frozen(eq=False, repr=False)
class Account(Value):
    """A client's session and settings."""

    session: Session
    settings: Settings

    @property
    def spending(self) -> Spending:
        """What all calls of the session cost, and their budget."""
        return self.session.spending

    def for_call(self, options: Options | None) -> Settings:
        """The settings of one call."""
        return self.settings.for_call(options)

    async def send(self, request: Request, settings: Settings, read: Callable[[Any], T]) -> T:
        """Send a request, and return what *read* makes of the decoded response."""
        return await self.session.call(
            request, settings, read_response=lambda response: self.read_response(response, read)
        )

    def read_response(self, response: Response, read: Callable[[Any], T]) -> T:
        """Return what *read* makes of the decoded response, or raise the error that it reports."""
        return read(read_document(response))

    def list_request(
        self, settings: Settings, options: Options | None, path: str, query: Mapping[str, str]
    ) -> Request:
        """The request for one page of a list."""
        return build_get_request(settings, options, path, query)

    def pager(
        self,
        path: str,
        read: Callable[[Any], ListPage[R]],
        start: Cursor,
        query: Mapping[str, str] | None = None,
        options: Options | None = None,
    ) -> Pager[R]:
        """List the rows at *path*, page by page.

        Args:
            path: Below the account.
            read: Reads one page.
            start: Where the list begins.
            query: Filters, sent with each page.
            options: Options of each request.
        """
        from cfai._session.pagination import Pager

        async def fetch(cursor: Cursor) -> ListPage[R]:
            settings = self.for_call(options)
            request = self.list_request(
                settings, options, path, {**(query or {}), **cursor.query()}
            )
            return await self.send(request, settings, read)

        return Pager(fetch, start)


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
