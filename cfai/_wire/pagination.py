"""Lists that come in pages: cursors, which say what page to request, and pages, which hold rows.

A cursor is a value: it turns into a query and knows the cursor after it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, Self, TypeVar

from attrs import Attribute, evolve, field, frozen

from cfai._types.excerpts import format_value
from cfai._types.values import Value
from cfai._validators import at_least
from cfai._wire.responses import unwrap_result
from cfai.errors import DecodeError, InputError

R = TypeVar("R")


@frozen(eq=False, repr=False)
class PageFacts(Value):
    """What a page says about its list."""

    count: int
    """The rows on this page."""

    total: int | None = None
    """The rows of the whole list, if the service reports them."""

    token: str | None = None
    """The token of the next page, if the service sends one."""


class Cursor(Protocol):
    """A position in a list."""

    def query(self) -> dict[str, str]:
        """The query of the request for this page. Omitted arguments are not in it."""

    def after(self, facts: PageFacts, seen: int) -> "Cursor | None":
        """The cursor of the page after one with *facts*; `None` at the end.

        *seen* counts the rows so far, including those of this page.
        """


def _is_nonempty_text(_: object, attribute: "Attribute[Any]", value: Any) -> None:
    if value is not None and (not isinstance(value, str) or not value):
        raise InputError(f"{attribute.name} must be a non-empty string, got {format_value(value)}")


def _build_query(**fields: str | int | None) -> dict[str, str]:
    return {name: str(value) for name, value in fields.items() if value is not None}


def _is_last(facts: PageFacts, seen: int, size: int | None) -> bool:
    """Whether a page is the last one, *seen* rows into the list and with at most *size* rows."""
    if not facts.count:
        return True
    # A total that is smaller than this page is ignored.
    if facts.total is not None and facts.total >= facts.count:
        return seen >= facts.total
    return size is not None and facts.count < size


@frozen(eq=False, repr=False)
class SinglePage(Value):
    """A list that comes in one page."""

    def query(self) -> dict[str, str]:
        """Empty."""
        return {}

    def after(self, facts: PageFacts, seen: int) -> None:
        """`None`."""


@frozen(kw_only=True, eq=False, repr=False)
class OffsetCursor(Value):
    """A number of rows from the beginning: `?limit=&offset=&orderBy=`.

    Source: Workers AI API, "List Public Finetunes".
    """

    limit: int | None = field(default=None, validator=at_least(1, qualified=False))
    """Rows per page. A page with fewer is the last one, so a limit above the service's own maximum
    ends the list early."""

    offset: int | None = field(default=None, validator=at_least(0, qualified=False))
    """Rows to skip."""

    order_by: str | None = field(default=None, validator=_is_nonempty_text)
    """The column that the rows are sorted by."""

    def query(self) -> dict[str, str]:
        """`limit`, `offset` and `orderBy`."""
        return _build_query(limit=self.limit, offset=self.offset, orderBy=self.order_by)

    def after(self, facts: PageFacts, seen: int) -> Self | None:
        """The same, as many rows further as the page had."""
        end = (self.offset or 0) + facts.count
        return None if _is_last(facts, end, self.limit) else evolve(self, offset=end)


@frozen(kw_only=True, eq=False, repr=False)
class NumberCursor(Value):
    """The number of a page, from 1: `?page=&per_page=`.

    Source: Workers AI API, "Model Search".
    """

    number: int | None = field(default=None, validator=at_least(1, qualified=False))
    size: int | None = field(default=None, validator=at_least(1, qualified=False))
    """Rows per page."""

    def query(self) -> dict[str, str]:
        """`page` and `per_page`."""
        return _build_query(page=self.number, per_page=self.size)

    def after(self, facts: PageFacts, seen: int) -> Self | None:
        """The next number."""
        # Rows are counted, not pages: a page may have fewer rows than requested.
        number = (self.number or 1) + 1
        return None if _is_last(facts, seen, self.size) else evolve(self, number=number)


@frozen(kw_only=True, eq=False, repr=False)
class TokenCursor(Value):
    """The token that the page before came with: `?page_size=&page_token=&order_by=`.

    Source: Cohere API, "Lists fine-tuned models".
    """

    size: int | None = field(default=None, validator=at_least(0, qualified=False))
    """Rows per page; with 0, the service decides."""

    token: str | None = field(default=None, validator=_is_nonempty_text)
    order_by: str | None = field(default=None, validator=_is_nonempty_text)

    def query(self) -> dict[str, str]:
        """`page_size`, `page_token` and `order_by`."""
        return _build_query(page_size=self.size, page_token=self.token, order_by=self.order_by)

    def after(self, facts: PageFacts, seen: int) -> Self | None:
        """The same with the token of the page; `None` if the page has no rows or no new token."""
        if not facts.token or facts.token == self.token or not facts.count:
            return None
        return evolve(self, token=facts.token)


@frozen(eq=False, repr=False)
class ListPage(Value, Generic[R]):
    """One page of a list."""

    rows: Sequence[R]
    raw: Sequence[Any]
    """The rows as decoded JSON."""
    facts: PageFacts
    skipped: Sequence[Any] = ()
    """The decoded JSON of the rows that can't be read."""


def read_page(document: Any, read_row: Callable[[Any, str], R]) -> ListPage[R]:
    """Read one page, whose result is a list, a nested list, or a single row.

    The API's schema has one object where its own clients read a list and its manual shows a list in
    a list, so each form is accepted. The second argument of *read_row* names the row in error
    messages.
    """
    result = unwrap_result(document)
    if not isinstance(result, list | Mapping | None):
        raise DecodeError(f"a list is documented, got {type(result).__name__}")
    raw = [] if result == {} else list(_flatten(result))
    info = document.get("result_info") if isinstance(document, Mapping) else None
    total = info.get("total_count") if isinstance(info, Mapping) else None
    facts = PageFacts(count=len(raw), total=total if type(total) is int else None)
    return build_page(raw, read_row, "result", facts)


def build_page(
    raw: Sequence[Any], read_row: Callable[[Any, str], R], name: str, facts: PageFacts
) -> ListPage[R]:
    """Read the rows of a page. A row that can't be read is skipped.

    Raises:
        DecodeError: There are rows, and none can be read.
    """
    rows: list[R] = []
    readable: list[Any] = []
    skipped: list[Any] = []
    problem: DecodeError | None = None
    for index, row in enumerate(raw):
        try:
            rows.append(read_row(row, f"{name}[{index}]"))
            readable.append(row)
        except DecodeError as exc:
            problem = problem or exc
            skipped.append(row)
    if problem is not None and not rows:
        raise problem
    return ListPage(rows, readable, facts, skipped)


def _flatten(result: Any) -> Iterator[Any]:
    if isinstance(result, list):
        for item in result:
            yield from _flatten(item)
    elif result is not None:
        yield result
