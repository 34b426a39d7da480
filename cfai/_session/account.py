"""`Account`: what resources send their requests with, and list rows from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import frozen

from cfai._session.session import Session
from cfai._session.spending import Spending
from cfai._types.values import Value
from cfai._wire.errors import read_document
from cfai._wire.requests import Request, build_get_request
from cfai._wire.responses import Response
from cfai.settings import Options, Settings

if TYPE_CHECKING:
    from cfai._session.pagination import Pager
    from cfai._wire.pagination import Cursor, ListPage

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
