"""Cursors: what they ask for, and where they lead."""

from typing import Any

import pytest

from cfai._wire.pagination import Cursor, Facts, Offset, Page, PageToken, Whole
from cfai.errors import InputError


@pytest.mark.parametrize(
    ("cursor", "query"),
    [
        (Whole(), {}),
        (Offset(), {}),
        (Offset(limit=50), {"limit": "50"}),
        (Offset(offset=0), {"offset": "0"}),
        (
            Offset(limit=1, offset=2, order_by="name"),
            {"limit": "1", "offset": "2", "orderBy": "name"},
        ),
        (Page(), {}),
        (Page(number=2, size=50), {"page": "2", "per_page": "50"}),
        (PageToken(), {}),
        (
            PageToken(size=5, token="abc", order_by="name"),
            {"page_size": "5", "page_token": "abc", "order_by": "name"},
        ),
    ],
)
def test_only_what_was_given_is_asked(cursor: Cursor, query: dict[str, str]) -> None:
    """The names are those of the documentation, and nothing that was left out is sent."""
    assert cursor.query() == query


@pytest.mark.parametrize(
    ("cursor", "facts", "seen", "successor"),
    [
        (Whole(), Facts(3, total=9), 3, None),
        # A full page has a successor; a short or an empty one has none.
        (Offset(limit=2), Facts(2), 2, Offset(limit=2, offset=2)),
        (Offset(limit=2, offset=4), Facts(2), 2, Offset(limit=2, offset=6)),
        (Offset(limit=2), Facts(1), 1, None),
        (Offset(limit=2), Facts(0), 0, None),
        # Without a limit, no page is known to be short; with more than it, none was obeyed.
        (Offset(order_by="name"), Facts(7), 7, Offset(offset=7, order_by="name")),
        (Offset(limit=2), Facts(7), 7, Offset(limit=2, offset=7)),
        # The total decides, also over a page that is shorter than was asked for.
        (Offset(limit=2), Facts(2, total=2), 2, None),
        (Offset(limit=50), Facts(20, total=21), 20, Offset(limit=50, offset=20)),
        (Offset(limit=50, offset=20), Facts(1, total=21), 1, None),
        (Offset(limit=2), Facts(2, total=0), 2, Offset(limit=2, offset=2)),
        (Page(size=50), Facts(50), 50, Page(number=2, size=50)),
        (Page(number=2, size=50), Facts(41), 91, None),
        (Page(number=2, size=50), Facts(41, total=91), 91, None),
        (Page(size=100), Facts(50, total=91), 50, Page(number=2, size=100)),
        (Page(), Facts(91), 91, Page(number=2)),
        (PageToken(size=1), Facts(1, token="b"), 1, PageToken(size=1, token="b")),
        (PageToken(token="b"), Facts(1, token="b"), 1, None),
        (PageToken(token="b"), Facts(1, token=""), 1, None),
        (PageToken(), Facts(0, token="b"), 0, None),
    ],
)
def test_a_cursor_knows_its_successor(
    cursor: Cursor, facts: Facts, seen: int, successor: Cursor | None
) -> None:
    """It is a value: the next one is another."""
    assert cursor.after(facts, seen) == successor


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (Offset, "limit", 0),
        (Offset, "limit", 1.5),
        (Offset, "limit", True),
        (Offset, "offset", -1),
        (Offset, "order_by", ""),
        (Page, "number", 0),
        (Page, "size", 0),
        (PageToken, "size", -1),
        (PageToken, "token", ""),
    ],
)
def test_what_can_not_be_asked_is_refused(kind: Any, field: str, value: object) -> None:
    """The message names the field, the rule and the value."""
    with pytest.raises(InputError, match=f"^{field} must be .*got {value!r}"):
        kind(**{field: value})
