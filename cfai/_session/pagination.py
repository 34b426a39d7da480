"""`Pager`: the rows of a list, requested page by page."""

import marshal
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from cfai._validators import check_at_least
from cfai._wire.pagination import Cursor, ListPage, TokenCursor

R = TypeVar("R")

_REPEATED_PAGES: Final = 2
"""The list ends after this many pages in a row without a new row. A single one is normal in a list
that grows."""


class Pager(Generic[R]):
    """The rows of a list: `async for row in pager`.

    A page is requested when its first row is needed, and nothing is held open between pages. Each
    iteration starts again at the first page. The iteration ends after an empty page, after a page
    with fewer rows than requested, at the total that the service reports, or after the second page
    in a row without new rows (from a service that ignores the position). If the list grows during
    the iteration, a row that moves to the next page is returned once. If it shrinks, a row that
    moves to the previous page may be missed.
    """

    def __init__(self, fetch: Callable[[Cursor], Awaitable[ListPage[R]]], start: Cursor) -> None:
        self._fetch = fetch
        self._start = start
        self.skipped: list[Any] = []
        """The decoded JSON of the rows that the last iteration could not read, and skipped."""

    def __repr__(self) -> str:
        return f"<Pager from {self._start}>"

    if not TYPE_CHECKING:  # Type checkers report an `await` by themselves.

        def __await__(self):
            message = "a list can't be awaited: iterate it (`async for row in pager`)"
            raise TypeError(f"{message}, or collect its rows (`await pager.to_list()`)")

    async def __aiter__(self) -> AsyncIterator[R]:
        async for page in self.pages():
            for row in page:
                yield row

    async def pages(self) -> AsyncIterator[list[R]]:
        """The rows page by page; no page is empty."""
        cursor: Cursor | None = self._start
        seen_rows = _SeenRows()
        self.skipped = []
        count = repeated = 0
        while cursor is not None:
            page = await self._fetch(cursor)
            rows, has_new = seen_rows.new_rows(page, has_token=isinstance(cursor, TokenCursor))
            repeated = 0 if has_new else repeated + 1
            if repeated == _REPEATED_PAGES:
                return
            self.skipped += page.skipped
            count += page.facts.count
            cursor = cursor.after(page.facts, count)
            if rows:
                yield rows
            # An error of the next page keeps this frame: no rows are shown with it.
            del page, rows

    async def first(self) -> R | None:
        """The first row, or `None` if the list is empty. Only one page is requested."""
        page = await self._fetch(self._start)
        return page.rows[0] if page.rows else None

    async def to_list(self, max: int | None = None) -> list[R]:  # noqa: A002  # a plain name
        """All rows, or the first *max* rows; no more pages are requested than needed.

        Raises:
            InputError: *max* is negative or not an integer.
        """
        if max is not None:
            check_at_least("max", max, 0)
        rows: list[R] = []
        if max == 0:
            return rows
        async for page in self.pages():
            rows += page
            if max is not None and len(rows) >= max:
                return rows[:max]
        return rows


class _SeenRows:
    """The rows of earlier pages: their ids, and a hash for the rows of a page without ids."""

    def __init__(self) -> None:
        self._ids: set[Hashable] = set()
        self._hashes: set[int] = set()

    def new_rows(self, page: ListPage[R], *, has_token: bool) -> tuple[list[R], bool]:
        """The rows of *page* that are new, and whether the page has anything new.

        Args:
            has_token: Whether the service itself named this page as the next one. Then rows without
                ids are returned even if an earlier page had the same.
        """
        ids = [_row_id(row) for row in page.raw]
        without_id = [row for row, row_id in zip(page.raw, ids, strict=True) if row_id is None]
        # Not orjson, which writes fewer levels of nesting than it reads.
        page_hash = hash(marshal.dumps(without_id, 0))
        new_hashes = {page_hash} - self._hashes if without_id else set()
        rows = []
        for row, row_id in zip(page.rows, ids, strict=True):
            if row_id not in self._ids if row_id is not None else new_hashes or has_token:
                rows.append(row)
        new_ids = {row_id for row_id in ids if row_id is not None} - self._ids
        self._ids |= new_ids
        self._hashes |= new_hashes
        return rows, bool(new_ids or new_hashes)


def _row_id(row: Any) -> Hashable | None:
    """What identifies a row on all pages: its id, or its name if it has no id."""
    candidates = (row.get("id"), row.get("name")) if isinstance(row, dict) else ()
    return next((value for value in candidates if isinstance(value, str | int)), None)
