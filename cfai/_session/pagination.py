"""`Pager`: the rows of a list, whose pages are asked for as they are needed."""

import marshal
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from typing import Any, Final, Generic, TypeVar

from cfai._wire.pagination import Cursor, ListPage, PageToken
from cfai.errors import InputError

R = TypeVar("R")

_STALE: Final = 2
"""Pages in a row with nothing new on them that are the end. One may be, in a list that grows."""


class Pager(Generic[R]):
    """The rows of a list: `async for row in pager`.

    A page is asked for when its first row is, and nothing is held open between pages. Each
    iteration begins anew, at the first page. It always ends: with an empty page or one that is
    shorter than was asked for, with the total that the service names, and with a second page on
    which nothing is new, from a service that ignores where it is asked to go on. A row that moved
    onto the next page while the list grew is given once; one that moved the other way while the
    list shrank can't be seen.
    """

    def __init__(self, fetch: Callable[[Cursor], Awaitable[ListPage[R]]], start: Cursor) -> None:
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
        known = _Known()
        count = stale = 0
        while cursor is not None:
            page = await self._fetch(cursor)
            rows, is_new = known.take(page, goes_on=isinstance(cursor, PageToken))
            stale = 0 if is_new else stale + 1
            if stale == _STALE:
                return
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


class _Known:
    """What was on the pages before: the ids of rows, and a number for a page of rows without."""

    def __init__(self) -> None:
        self._keys: set[Hashable] = set()
        self._marks: set[int] = set()

    def take(self, page: ListPage[R], *, goes_on: bool) -> tuple[list[R], bool]:
        """Give the rows that were not there yet, and whether anything on the page is new.

        Args:
            page: The next page.
            goes_on: Rows without an id are given even where all of them were there before, since
                the service says that the list goes on here.
        """
        keys = [_key(said) for said in page.raw]
        nameless = [said for said, key in zip(page.raw, keys, strict=True) if key is None]
        # Not orjson, which writes fewer levels than it reads.
        mark = hash(marshal.dumps(nameless, 0))
        new_marks = {mark} - self._marks if nameless else set()
        rows = []
        for row, key in zip(page.rows, keys, strict=True):
            if key not in self._keys if key is not None else new_marks or goes_on:
                rows.append(row)
        new_keys = {key for key in keys if key is not None} - self._keys
        self._keys |= new_keys
        self._marks |= new_marks
        return rows, bool(new_keys or new_marks)


def _key(row: Any) -> Hashable | None:
    """What a row is known by from one page to the next: its id, else its name."""
    known = (row.get("id"), row.get("name")) if isinstance(row, dict) else ()
    return next((one for one in known if isinstance(one, str | int)), None)
