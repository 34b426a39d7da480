"""`Pager`: the rows of a list, whose pages are asked for as they are needed."""

from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterator
from typing import Any, Generic, TypeVar

from cfai._convert import dumps
from cfai._wire.cursors import Cursor
from cfai._wire.listings import Rows
from cfai.errors import InputError

R = TypeVar("R")


class Pager(Generic[R]):
    """The rows of a list: `async for row in pager`.

    A page is asked for when its first row is, and nothing is held open between pages. Each
    iteration begins anew, at the first page. It always ends: with a short or an empty page, with
    the total that the service names, and with a page that was there before, from a service that
    ignores where it is asked to go on. A row that moved onto the next page while the list grew is
    given once; one that moved the other way while the list shrank can't be seen.
    """

    def __init__(self, fetch: Callable[[Cursor], Awaitable[Rows[R]]], start: Cursor) -> None:
        self._fetch = fetch
        self._start = start

    def __repr__(self) -> str:
        return f"<Pager from {self._start}>"

    async def __aiter__(self) -> AsyncIterator[R]:
        async for page in self.pages():
            for row in page:
                yield row

    async def pages(self) -> AsyncIterator[list[R]]:
        """The rows page by page; no page is empty."""
        cursor: Cursor | None = self._start
        seen: set[Hashable] = set()
        before: set[Hashable] = set()
        count = 0
        while cursor is not None:
            page = await self._fetch(cursor)
            # One number a page, not the page: a list may be long.
            mark = hash(dumps(page.said))
            if mark in seen:
                return
            seen.add(mark)
            rows = list(_new(page, before))
            before = {key for row in page.said if (key := _key(row)) is not None}
            count += page.facts.count
            cursor = cursor.after(page.facts, count)
            if rows:
                yield rows

    async def first(self) -> R | None:
        """The first row, or `None` where the list is empty. One page is asked for."""
        page = await self._fetch(self._start)
        return page.rows[0] if page.rows else None

    async def to_list(self, max: int | None = None) -> list[R]:  # noqa: A002  # what it is
        """All rows, or the first *max* of them; no page is asked for beyond those.

        Raises:
            InputError: *max* is below 0, or no whole number.
        """
        if max is not None and (type(max) is not int or max < 0):
            raise InputError(f"max must be a whole number, 0 or more, got {max!r:.60}")
        rows: list[R] = []
        if max == 0:
            return rows
        async for page in self.pages():
            rows += page
            if max is not None and len(rows) >= max:
                return rows[:max]
        return rows


def _key(row: Any) -> Hashable | None:
    """What a row is known by from one page to the next."""
    name = row.get("id") if isinstance(row, dict) else None
    return name if isinstance(name, str | int) else None


def _new(page: Rows[R], before: set[Hashable]) -> Iterator[R]:
    for row, said in zip(page.rows, page.said, strict=True):
        key = _key(said)
        if key is None or key not in before:
            yield row
