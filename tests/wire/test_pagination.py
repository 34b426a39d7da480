"""Cursors: their queries and their successors."""

from typing import Any

import pytest

from cfai._wire.pagination import (
    Cursor,
    NumberCursor,
    OffsetCursor,
    PageFacts,
    SinglePage,
    TokenCursor,
)
from cfai.errors import InputError


@pytest.mark.parametrize(
    ("cursor", "query"),
    [
        (SinglePage(), {}),
        (OffsetCursor(), {}),
        (OffsetCursor(limit=50), {"limit": "50"}),
        (OffsetCursor(offset=0), {"offset": "0"}),
        (
            OffsetCursor(limit=1, offset=2, order_by="name"),
            {"limit": "1", "offset": "2", "orderBy": "name"},
        ),
        (NumberCursor(), {}),
        (NumberCursor(number=2, size=50), {"page": "2", "per_page": "50"}),
        (TokenCursor(), {}),
        (
            TokenCursor(size=5, token="abc", order_by="name"),
            {"page_size": "5", "page_token": "abc", "order_by": "name"},
        ),
    ],
)
def test_a_query_has_only_the_given_arguments(cursor: Cursor, query: dict[str, str]) -> None:
    """The names are those of the documentation. Omitted arguments are not sent."""
    assert cursor.query() == query


@pytest.mark.parametrize(
    ("cursor", "facts", "seen", "successor"),
    [
        (SinglePage(), PageFacts(3, total=9), 3, None),
        # A full page has a successor; a short or an empty one has none.
        (OffsetCursor(limit=2), PageFacts(2), 2, OffsetCursor(limit=2, offset=2)),
        (OffsetCursor(limit=2, offset=4), PageFacts(2), 2, OffsetCursor(limit=2, offset=6)),
        (OffsetCursor(limit=2), PageFacts(1), 1, None),
        (OffsetCursor(limit=2), PageFacts(0), 0, None),
        # Without a limit, no page is short. A page above the limit means that it was ignored.
        (OffsetCursor(order_by="name"), PageFacts(7), 7, OffsetCursor(offset=7, order_by="name")),
        (OffsetCursor(limit=2), PageFacts(7), 7, OffsetCursor(limit=2, offset=7)),
        # The total decides, even if a page is shorter than requested.
        (OffsetCursor(limit=2), PageFacts(2, total=2), 2, None),
        (OffsetCursor(limit=50), PageFacts(20, total=21), 20, OffsetCursor(limit=50, offset=20)),
        (OffsetCursor(limit=50, offset=20), PageFacts(1, total=21), 1, None),
        (OffsetCursor(limit=2), PageFacts(2, total=0), 2, OffsetCursor(limit=2, offset=2)),
        (NumberCursor(size=50), PageFacts(50), 50, NumberCursor(number=2, size=50)),
        (NumberCursor(number=2, size=50), PageFacts(41), 91, None),
        (NumberCursor(number=2, size=50), PageFacts(41, total=91), 91, None),
        (NumberCursor(size=100), PageFacts(50, total=91), 50, NumberCursor(number=2, size=100)),
        (NumberCursor(), PageFacts(91), 91, NumberCursor(number=2)),
        (TokenCursor(size=1), PageFacts(1, token="b"), 1, TokenCursor(size=1, token="b")),
        (TokenCursor(token="b"), PageFacts(1, token="b"), 1, None),
        (TokenCursor(token="b"), PageFacts(1, token=""), 1, None),
        (TokenCursor(), PageFacts(0, token="b"), 0, None),
    ],
)
def test_a_cursor_knows_its_successor(
    cursor: Cursor, facts: PageFacts, seen: int, successor: Cursor | None
) -> None:
    """It is a value: the successor is a new one."""
    assert cursor.after(facts, seen) == successor


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (OffsetCursor, "limit", 0),
        (OffsetCursor, "limit", 1.5),
        (OffsetCursor, "limit", True),
        (OffsetCursor, "offset", -1),
        (OffsetCursor, "order_by", ""),
        (NumberCursor, "number", 0),
        (NumberCursor, "size", 0),
        (TokenCursor, "size", -1),
        (TokenCursor, "token", ""),
    ],
)
def test_an_invalid_position_is_refused(kind: Any, field: str, value: object) -> None:
    """The message names the field, the rule and the value."""
    with pytest.raises(InputError, match=f"^{field} must be .*got {value!r}"):
        kind(**{field: value})
