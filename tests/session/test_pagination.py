"""Pagers return every row once, in order, and always end. Over a real socket."""

from collections.abc import Callable
from typing import Any

import pytest

from cfai import Finetune
from cfai.errors import DecodeError, InputError, NotFound, PermissionDenied
from cfai.settings import Options
from cfai.testing import FakeWorkersAI, Recorded, Script


def rows(count: int) -> list[dict[str, Any]]:
    return [
        {"id": f"00000000-0000-4000-8000-{n:012}", "model": "m", "name": f"n{n}", "public": True}
        for n in range(count)
    ]


def names(finetunes: list[Finetune]) -> list[str]:
    return [finetune.name for finetune in finetunes]


def serve_pages(
    listed: list[dict[str, Any]], usual: int | None = None
) -> Callable[[Recorded], Any]:
    """A service with pages as documented; *usual* rows per page by default."""

    def answer(request: Recorded) -> list[dict[str, Any]]:
        start = int(request.query.get("offset", 0))
        limit = int(request.query.get("limit", usual or len(listed) or 1))
        return listed[start : start + limit]

    return answer


@pytest.mark.parametrize("count", [0, 1, 49, 50, 51, 1000])
@pytest.mark.parametrize("limit", [None, 1, 50, 1000])
async def test_every_row_is_returned_once(
    fake: FakeWorkersAI, count: int, limit: int | None
) -> None:
    """In the order of the service, with at most one request more than needed."""
    listed = rows(count)
    fake.always.answers_by(serve_pages(listed))
    finetunes = await fake.client().finetunes.public(limit=limit).to_list()
    assert names(finetunes) == [row["name"] for row in listed]
    assert len(fake.requests) <= max(1, -(-count // (limit or 1000))) + 1


async def test_the_query_of_each_page(fake: FakeWorkersAI) -> None:
    """`limit`, `offset` and `orderBy`; omitted arguments are not sent."""
    fake.always.answers_by(serve_pages(rows(3)))
    ai = fake.client()
    await ai.finetunes.public().first()
    await ai.finetunes.public(limit=2, offset=1, order_by="name").to_list()
    assert [request.target.partition("/ai/")[2] for request in fake.requests] == [
        "finetunes/public",
        "finetunes/public?limit=2&offset=1&orderBy=name",
        "finetunes/public?limit=2&offset=3&orderBy=name",
    ]
    assert {request.method for request in fake.requests} == {"GET"}
    assert all("Content-Type" not in request.headers for request in fake.requests)


async def test_an_odd_row_is_skipped(fake: FakeWorkersAI) -> None:
    """And kept in `skipped`, for the last iteration. It counts as a row of its page."""
    listed: list[Any] = rows(6)
    listed[1], listed[4] = {"id": 5}, "odd"
    fake.always.answers_by(serve_pages(listed))
    pager = fake.client().finetunes.public(limit=2)
    for _ in range(2):
        assert names(await pager.to_list()) == ["n0", "n2", "n3", "n5"]
        assert pager.skipped == [{"id": 5}, "odd"]


async def test_a_page_of_odd_rows_is_an_error(fake: FakeWorkersAI) -> None:
    fake.always.answers_by(serve_pages([{"id": 5}, "odd"]))  # type: ignore[list-item]  # odd
    with pytest.raises(DecodeError, match=r"result\[0\]"):
        await fake.client().finetunes.public().to_list()


async def test_rows_pages_first_and_to_list(fake: FakeWorkersAI) -> None:
    """Each starts at the beginning of the list."""
    fake.always.answers_by(serve_pages(rows(5)))
    pager = fake.client().finetunes.public(limit=2)
    assert names([row async for row in pager]) == ["n0", "n1", "n2", "n3", "n4"]
    assert [names(page) async for page in pager.pages()] == [["n0", "n1"], ["n2", "n3"], ["n4"]]
    first = await pager.first()
    assert first is not None
    assert first.name == "n0"
    before = len(fake.requests)
    assert names(await pager.to_list(max=2)) == ["n0", "n1"]
    assert len(fake.requests) == before + 1
    assert names(await pager.to_list(max=3)) == ["n0", "n1", "n2"]
    assert names(await pager.to_list(max=9)) == ["n0", "n1", "n2", "n3", "n4"]
    assert await pager.to_list(max=0) == []
    assert "OffsetCursor(limit=2" in repr(pager)


@pytest.mark.parametrize("most", [-1, 1.0, True])
async def test_max_must_be_a_whole_number(fake: FakeWorkersAI, most: Any) -> None:
    """Nothing is sent."""
    with pytest.raises(InputError, match="max must be a whole number"):
        await fake.client().finetunes.public().to_list(max=most)
    assert not fake.requests


async def test_pages_are_requested_lazily(fake: FakeWorkersAI) -> None:
    """An iteration that stops early requests no more pages."""
    fake.always.answers_by(serve_pages(rows(9)))
    pager = fake.client().finetunes.public(limit=3)
    assert not fake.requests
    async for _ in pager:
        break
    assert len(fake.requests) == 1


@pytest.mark.parametrize("limit", [None, 1, 3, 5])
@pytest.mark.parametrize("changes", [False, True])
async def test_a_service_that_ignores_the_offset(
    fake: FakeWorkersAI, limit: int | None, changes: bool
) -> None:
    """A page with only known rows ends the list, even if their other fields changed."""
    listed = rows(3)

    def answer(request: Recorded) -> list[dict[str, Any]]:
        return [{**row, "description": str(len(fake.requests) * changes)} for row in listed]

    fake.always.answers_by(answer)
    assert names(await fake.client().finetunes.public(limit=limit).to_list()) == ["n0", "n1", "n2"]
    assert len(fake.requests) <= 3


async def test_a_service_that_ignores_the_page(fake: FakeWorkersAI) -> None:
    """Rows without an id are compared as a whole page."""
    listed = [{"name": f"@cf/a/{n}"} for n in range(3)]
    fake.always.answers(listed)
    assert len(await fake.client().models.search(page_size=3).to_list()) == 3
    assert len(fake.requests) <= 3


async def test_a_service_that_starts_again_after_the_last_page(fake: FakeWorkersAI) -> None:
    """The list ends at the first page without new rows."""
    listed = rows(4)
    fake.always.answers_by(lambda request: listed[int(request.query.get("offset", 0)) % 4 :][:2])
    finetunes = await fake.client().finetunes.public(limit=2).to_list()
    assert names(finetunes) == ["n0", "n1", "n2", "n3"]


@pytest.mark.parametrize(("limit", "added"), [(1, 1), (2, 1), (2, 2), (2, 3), (3, 2)])
async def test_rows_added_between_pages(fake: FakeWorkersAI, limit: int, added: int) -> None:
    """Rows that move to the next page are returned once, and later rows are not lost."""
    listed = rows(12)

    def answer(request: Recorded) -> list[dict[str, Any]]:
        grown = listed[-added:] + listed[:-added] if len(fake.requests) > 1 else listed[:-added]
        page: list[dict[str, Any]] = serve_pages(grown)(request)
        return page

    fake.always.answers_by(answer)
    finetunes = names(await fake.client().finetunes.public(limit=limit).to_list())
    assert len(set(finetunes)) == len(finetunes)
    assert [name for name in finetunes if int(name[1:]) < 12 - added] == [
        f"n{n}" for n in range(12 - added)
    ]


async def test_deeply_nested_rows(fake: FakeWorkersAI) -> None:
    """Fields that are not read cannot fail the list."""
    deep = b'{"name":"@cf/a/b","properties":' + b'{"a":' * 180 + b"1" + b"}" * 181
    fake.says(b'{"result":[' + deep + b'],"success":true}').answers([])
    assert len(await fake.client().models.search().to_list()) == 1


async def test_a_row_removed_between_pages(fake: FakeWorkersAI) -> None:
    """The list continues, and ends."""
    listed = rows(5)
    fake.answers(listed[:2]).answers(listed[3:5]).answers([])
    finetunes = await fake.client().finetunes.public(limit=2).to_list()
    assert names(finetunes) == ["n0", "n1", "n3", "n4"]


async def test_a_total_saves_the_last_request(fake: FakeWorkersAI) -> None:
    """After two full pages with the reported total of four rows, no page is requested."""
    listed = rows(4)
    for start in (0, 2):
        body = {"result": listed[start : start + 2], "success": True}
        fake.replies(_reply(body | {"result_info": {"total_count": 4}}))
    assert len(await fake.client().finetunes.public(limit=2).to_list()) == 4


def _reply(document: dict[str, Any]) -> Any:
    import json

    return Script().says(json.dumps(document)).take()


async def test_an_error_of_a_page_is_raised(fake: FakeWorkersAI) -> None:
    """After the rows of the pages before it."""
    listed = rows(2)
    fake.answers(listed).fails(403, 10000, "Authentication error")
    finetunes = []
    with pytest.raises(PermissionDenied):
        async for row in fake.client().finetunes.public(limit=2):
            finetunes.append(row.name)  # noqa: PERF401  # it raises
    assert finetunes == ["n0", "n1"]


async def test_only_the_failed_page_is_retried(fake: FakeWorkersAI) -> None:
    listed = rows(3)
    fake.answers(listed[:2])
    fake.fails(429, 3040, "busy", headers={"retry-after-ms": "1"})
    fake.answers(listed[2:])
    assert len(await fake.client().finetunes.public(limit=2).to_list()) == 3


async def test_options_apply_to_every_page(fake: FakeWorkersAI) -> None:
    """A header of the options is sent with each request."""
    fake.always.answers_by(serve_pages(rows(2)))
    options = Options(headers={"X-Mine": "1"})
    await fake.client().finetunes.public(limit=1, options=options).to_list()
    assert [request.headers["X-Mine"] for request in fake.requests] == ["1", "1", "1"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"result":"none","success":true}', "a list is documented"),
        (b'{"result":[1],"success":true}', r"result\[0\]"),
        (b'{"result":[{"id":null,"model":"m","name":"n"}],"success":true}', r"result\[0\]\.id"),
        (b'{"result":[{"id":"1","model":"m","name":"n"}],"success":true}', "UUID"),
        (b"<html>", "not JSON"),
        (b'data: {"a":1}\n\n', "a stream where JSON"),
    ],
)
async def test_undocumented_rows_are_an_error(
    fake: FakeWorkersAI, body: bytes, reason: str
) -> None:
    """The message names the row."""
    fake.says(body)
    with pytest.raises(DecodeError, match=reason):
        await fake.client().finetunes.public().first()


async def test_a_list_that_does_not_exist(fake: FakeWorkersAI) -> None:
    """The documented 404 has a string instead of a list of errors."""
    fake.says(b'{"error":"string","success":false}', status=404)
    with pytest.raises(NotFound, match="string"):
        await fake.client().finetunes.list().first()
