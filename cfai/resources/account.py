"""An account as everything beside runs sees it: something to ask, and to list from."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from attrs import frozen

from cfai._session.pagination import Pager
from cfai._session.session import Session
from cfai._wire.listings import Rows, listed, told
from cfai._wire.pagination import Cursor
from cfai._wire.requests import Request
from cfai._wire.responses import Reply
from cfai.meta import Meta
from cfai.settings import Options, Settings

R = TypeVar("R")
T = TypeVar("T")

Asking = Callable[[Settings, Options | None], Request]
"""What makes a request, once the settings of the call are known."""


@frozen
class Account:
    """A client's settings and its session."""

    session: Session
    settings: Settings

    async def ask(
        self, asking: Asking, read: Callable[[Any], T], options: Options | None = None
    ) -> T:
        """Send a request, and give what *read* makes of the decoded answer."""
        return await self.hear(asking, lambda document, _: read(document), options)

    async def hear(
        self, asking: Asking, read: Callable[[Any, Meta], T], options: Options | None = None
    ) -> T:
        """Send a request, and give what *read* makes of the answer and the facts around it."""
        settings = self.settings.for_call(options)

        def heard(reply: Reply) -> T:
            return told(reply, lambda document: read(document, reply.meta))

        return await self.session.call(asking(settings, options), settings, read=heard)

    def pager(
        self,
        path: str,
        read: Callable[[Any], Rows[R]],
        start: Cursor,
        query: Mapping[str, str] | None = None,
        options: Options | None = None,
    ) -> Pager[R]:
        """The rows of the list at *path*, a page at a time."""

        async def fetch(cursor: Cursor) -> Rows[R]:
            return await self.ask(listed(path, cursor, query or {}), read, options)

        return Pager(fetch, start)
