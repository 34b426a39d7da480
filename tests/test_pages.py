"""Pagers over a real socket: every row once, in order, and an end whatever the service does."""

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


def names(found: list[Finetune]) -> list[str]:
    return [one.name for one in found]


def obedient(there: list[dict[str, Any]], usual: int | None = None) -> Callable[[Recorded], Any]:
    """A service that pages as documented; *usual* rows where no limit was sent."""

    def answer(request: Recorded) -> list[dict[str, Any]]:
        start = int(request.query.get("offset", 0))
        limit = int(request.query.get("limit", usual or len(there) or 1))
        return there[start : start + limit]

    return answer


@pytest.mark.parametrize("count", [0, 1, 49, 50, 51, 1000])
@pytest.mark.parametrize("limit", [None, 1, 50, 1000])
async def test_every_row_once(fake: FakeWorkersAI, count: int, limit: int | None) -> None:
    """In the service's order, with no more requests than needed plus one."""
    there = rows(count)
    fake.always.answers_by(obedient(there))
    found = await fake.client().finetunes.public(limit=limit).to_list()
    assert names(found) == [row["name"] for row in there]
    assert len(fake.requests) <= max(1, -(-count // (limit or 1000))) + 1


async def test_what_goes_out(fake: FakeWorkersAI) -> None:
    """`limit`, `offset` and `orderBy` to the letter, and nothing that was left out."""
    fake.always.answers_by(obedient(rows(3)))
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


async def test_the_ways_to_read(fake: FakeWorkersAI) -> None:
    """Rows, pages, the first, a list, a part of it: each from the beginning."""
    fake.always.answers_by(obedient(rows(5)))
    pager = fake.client().finetunes.public(limit=2)
    assert names([row async for row in pager]) == ["n0", "n1", "n2", "n3", "n4"]
    assert [names(page) async for page in pager.pages()] == [["n0", "n1"], ["n2", "n3"], ["n4"]]
    first = await pager.first()
    assert first is not None
    assert first.name == "n0"
    asked = len(fake.requests)
    assert names(await pager.to_list(max=2)) == ["n0", "n1"]
    assert len(fake.requests) == asked + 1
    assert names(await pager.to_list(max=3)) == ["n0", "n1", "n2"]
    assert names(await pager.to_list(max=9)) == ["n0", "n1", "n2", "n3", "n4"]
    assert await pager.to_list(max=0) == []
    assert "Offset(limit=2" in repr(pager)


@pytest.mark.parametrize("most", [-1, 1.0, True])
async def test_a_part_is_a_whole_number(fake: FakeWorkersAI, most: Any) -> None:
    """Nothing is asked for."""
    with pytest.raises(InputError, match="max must be a whole number"):
        await fake.client().finetunes.public().to_list(max=most)
    assert not fake.requests


async def test_nothing_is_asked_before_it_is_needed(fake: FakeWorkersAI) -> None:
    """Whoever stops early asks for no further page."""
    fake.always.answers_by(obedient(rows(9)))
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
    """It gives the same rows again, whatever else it says of them: that is the end."""
    there = rows(3)

    def answer(request: Recorded) -> list[dict[str, Any]]:
        return [{**row, "description": str(len(fake.requests) * changes)} for row in there]

    fake.always.answers_by(answer)
    assert names(await fake.client().finetunes.public(limit=limit).to_list()) == ["n0", "n1", "n2"]
    assert len(fake.requests) <= 3


async def test_a_service_that_ignores_the_page(fake: FakeWorkersAI) -> None:
    """Rows without an id are known by the page that they make."""
    there = [{"name": f"@cf/a/{n}"} for n in range(3)]
    fake.always.answers(there)
    assert len(await fake.client().models.search(page_size=3).to_list()) == 3
    assert len(fake.requests) <= 3


async def test_pages_that_go_round(fake: FakeWorkersAI) -> None:
    """A service that begins anew behind the end is left at the first page that was there before."""
    there = rows(4)
    fake.always.answers_by(lambda request: there[int(request.query.get("offset", 0)) % 4 :][:2])
    found = await fake.client().finetunes.public(limit=2).to_list()
    assert names(found) == ["n0", "n1", "n2", "n3"]


@pytest.mark.parametrize(("limit", "added"), [(1, 1), (2, 1), (2, 2), (2, 3), (3, 2)])
async def test_rows_added_between_pages(fake: FakeWorkersAI, limit: int, added: int) -> None:
    """What they pushed onto later pages is given once, and what lies behind it is not lost."""
    there = rows(12)

    def answer(request: Recorded) -> list[dict[str, Any]]:
        grown = there[-added:] + there[:-added] if len(fake.requests) > 1 else there[:-added]
        page: list[dict[str, Any]] = obedient(grown)(request)
        return page

    fake.always.answers_by(answer)
    found = names(await fake.client().finetunes.public(limit=limit).to_list())
    assert len(set(found)) == len(found)
    assert [name for name in found if int(name[1:]) < 12 - added] == [
        f"n{n}" for n in range(12 - added)
    ]


async def test_rows_that_are_nested_deeply(fake: FakeWorkersAI) -> None:
    """What is in a row beside what is read is no reason to fail."""
    deep = b'{"name":"@cf/a/b","properties":' + b'{"a":' * 300 + b"1" + b"}" * 301
    fake.says(b'{"result":[' + deep + b'],"success":true}').answers([])
    assert len(await fake.client().models.search().to_list()) == 1


async def test_a_row_removed_between_pages(fake: FakeWorkersAI) -> None:
    """The list goes on, and ends."""
    there = rows(5)
    fake.answers(there[:2]).answers(there[3:5]).answers([])
    found = await fake.client().finetunes.public(limit=2).to_list()
    assert names(found) == ["n0", "n1", "n3", "n4"]


async def test_a_total_saves_the_last_question(fake: FakeWorkersAI) -> None:
    """Two full pages of four rows are all there is, where the service says four."""
    there = rows(4)
    for start in (0, 2):
        body = {"result": there[start : start + 2], "success": True}
        fake.replies(_says(body | {"result_info": {"total_count": 4}}))
    assert len(await fake.client().finetunes.public(limit=2).to_list()) == 4


def _says(document: dict[str, Any]) -> Any:
    import json

    return Script().says(json.dumps(document)).take()


async def test_a_refused_page_is_an_error(fake: FakeWorkersAI) -> None:
    """What came before it was given; the list does not seem to end there."""
    there = rows(2)
    fake.answers(there).fails(403, 10000, "Authentication error")
    found = []
    with pytest.raises(PermissionDenied):
        async for row in fake.client().finetunes.public(limit=2):
            found.append(row.name)  # noqa: PERF401  # it raises
    assert found == ["n0", "n1"]


async def test_a_page_is_retried_alone(fake: FakeWorkersAI) -> None:
    """A busy service costs one page's repetition, not the list."""
    there = rows(3)
    fake.answers(there[:2])
    fake.fails(429, 3040, "busy", headers={"retry-after-ms": "1"})
    fake.answers(there[2:])
    assert len(await fake.client().finetunes.public(limit=2).to_list()) == 3


async def test_options_are_those_of_every_page(fake: FakeWorkersAI) -> None:
    """A header for the call is sent with each of its requests."""
    fake.always.answers_by(obedient(rows(2)))
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
        (b"<html>", "no JSON"),
        (b'data: {"a":1}\n\n', "a stream where JSON"),
    ],
)
async def test_a_row_nobody_documented(fake: FakeWorkersAI, body: bytes, reason: str) -> None:
    """It is named, with the body."""
    fake.says(body)
    with pytest.raises(DecodeError, match=reason):
        await fake.client().finetunes.public().first()


async def test_a_list_that_is_not_there(fake: FakeWorkersAI) -> None:
    """The documented 404 has a text where others have a list."""
    fake.says(b'{"error":"string","success":false}', status=404)
    with pytest.raises(NotFound, match="string"):
        await fake.client().finetunes.list().first()
