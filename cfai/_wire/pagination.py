"""Lists that come in pages: cursors, which say what page to request, and pages, which hold rows.

A cursor is a value: it turns into a query and knows the cursor after it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, Self, TypeVar

from attrs import Attribute, evolve, field, frozen

from cfai._validators import Validator, check_at_least
from cfai._wire.responses import unwrap_result
from cfai.errors import DecodeError, InputError

R = TypeVar("R")


@frozen
class Facts:
    """What a page says of the list that it is from."""

    count: int
    """How many rows are on it."""

    total: int | None = None
    """How many rows the whole list has, where the service says so."""

    token: str | None = None
    """What the next page is asked for with, where the service says so."""


class Cursor(Protocol):
    """A place in a list."""

    def query(self) -> dict[str, str]:
        """The query that asks for the page here. What the user left out is not in it."""

    def after(self, facts: Facts, seen: int) -> "Cursor | None":
        """The place of the next page; `None` at the end.

        Args:
            facts: What the page here says.
            seen: How many rows came so far, those of this page included.
        """


def _at_least(minimum: int) -> Validator:
    def validate(_: object, attribute: "Attribute[Any]", value: Any) -> None:
        if value is not None:
            check_at_least(attribute.name, value, minimum)

    return validate


def _text(instance: object, attribute: Any, value: object) -> None:
    if value is not None and (not isinstance(value, str) or not value):
        name = attribute.name
        raise InputError(f"{name} must be a text with something in it, got {value!r:.60}")


def _sent(**given: str | int | None) -> dict[str, str]:
    return {name: str(value) for name, value in given.items() if value is not None}


def _ended(facts: Facts, seen: int, size: int | None) -> bool:
    """Whether a page is the last one, *seen* rows into the list and of at most *size* rows."""
    if not facts.count:
        return True
    # A total that is smaller than the page at hand counts nothing.
    if facts.total is not None and facts.total >= facts.count:
        return seen >= facts.total
    return size is not None and facts.count < size


@frozen
class Whole:
    """A list that comes in one page."""

    def query(self) -> dict[str, str]:
        """Nothing."""
        return {}

    def after(self, facts: Facts, seen: int) -> None:
        """Nothing."""


@frozen(kw_only=True)
class Offset:
    """So many rows from the beginning: `?limit=&offset=&orderBy=`.

    Source: Workers AI API, "List Public Finetunes".
    """

    limit: int | None = field(default=None, validator=_at_least(1))
    """Rows a page. One with fewer is the last, so that no more may be asked for than are given."""

    offset: int | None = field(default=None, validator=_at_least(0))
    """Rows to pass over."""

    order_by: str | None = field(default=None, validator=_text)
    """The column whose order the rows are in."""

    def query(self) -> dict[str, str]:
        """`limit`, `offset` and `orderBy`."""
        return _sent(limit=self.limit, offset=self.offset, orderBy=self.order_by)

    def after(self, facts: Facts, seen: int) -> Self | None:
        """As many rows on as there were."""
        there = (self.offset or 0) + facts.count
        return None if _ended(facts, there, self.limit) else evolve(self, offset=there)


@frozen(kw_only=True)
class Page:
    """The page of a number, counted from 1: `?page=&per_page=`.

    Source: Workers AI API, "Model Search".
    """

    number: int | None = field(default=None, validator=_at_least(1))
    size: int | None = field(default=None, validator=_at_least(1))
    """Rows a page."""

    def query(self) -> dict[str, str]:
        """`page` and `per_page`."""
        return _sent(page=self.number, per_page=self.size)

    def after(self, facts: Facts, seen: int) -> Self | None:
        """The next number."""
        # The rows are counted: with a total, a service may give fewer a page than were asked for.
        number = (self.number or 1) + 1
        return None if _ended(facts, seen, self.size) else evolve(self, number=number)


@frozen(kw_only=True)
class PageToken:
    """The page that the one before gave a token for: `?page_size=&page_token=&order_by=`.

    Source: Cohere API, "Lists fine-tuned models".
    """

    size: int | None = field(default=None, validator=_at_least(0))
    """Rows a page; 0 leaves it to the service."""

    token: str | None = field(default=None, validator=_text)
    order_by: str | None = field(default=None, validator=_text)

    def query(self) -> dict[str, str]:
        """`page_size`, `page_token` and `order_by`."""
        return _sent(page_size=self.size, page_token=self.token, order_by=self.order_by)

    def after(self, facts: Facts, seen: int) -> Self | None:
        """Where the token leads that the page came with."""
        if not facts.token or facts.token == self.token or not facts.count:
            return None
        return evolve(self, token=facts.token)


@frozen
class ListPage(Generic[R]):
    """One page of a list."""

    rows: Sequence[R]
    raw: Sequence[Any]
    """The rows as decoded JSON."""
    facts: Facts


def read_page(document: Any, read_row: Callable[[Any, str], R]) -> ListPage[R]:
    """Read one page, whose result is a list, a nested list, or a single row.

    The API's schema has one object where its own clients read a list and its manual shows a list in
    a list, so each form is accepted.

    Args:
        document: The decoded body.
        read_row: Reads one row; its second argument names the row in error messages.
    """
    result = unwrap_result(document)
    if not isinstance(result, list | Mapping | None):
        raise DecodeError(f"a list is documented, got {type(result).__name__}")
    raw = [] if result == {} else list(_flatten(result))
    rows = [read_row(row, f"result[{index}]") for index, row in enumerate(raw)]
    return ListPage(rows, raw, Facts(count=len(raw), total=_total_count(document)))


def _flatten(result: Any) -> Iterator[Any]:
    if isinstance(result, list):
        for item in result:
            yield from _flatten(item)
    elif result is not None:
        yield result


def _total_count(document: Any) -> int | None:
    info = document.get("result_info") if isinstance(document, Mapping) else None
    total = info.get("total_count") if isinstance(info, Mapping) else None
    return total if type(total) is int else None
