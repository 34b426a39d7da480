"""Random responses for every public call: a short session, and that a session finds faults."""

import asyncio
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from cfai.errors import DecodeError
from tests.fuzz.calls import CALLS, Call, Clients
from tests.fuzz.inputs import RawReply
from tests.fuzz.session import Session, draw, run_session, running_clients

BODIES = (b'{"response":"Hello","usage":{"prompt_tokens":1}}',)
INPUTS = 400
"""For each part of the short session: two seconds on one core."""


@pytest.mark.parametrize("part", range(8))
async def test_random_responses_give_answers_or_typed_errors(tmp_path: Path, part: int) -> None:
    """No other exception, no task or connection left, and no memory."""
    report = await run_session(tmp_path, f"part {part}", inputs=INPUTS)
    assert not report.failures, "\n\n".join(map(str, report.failures))
    assert report.inputs == INPUTS
    assert report.growth < 64 * 2**20
    # Most kinds of outcome are there: the responses are neither all valid nor all broken.
    assert report.outcomes["answer"] > INPUTS / 10
    assert report.outcomes["DecodeError"] > INPUTS / 10
    assert len(report.outcomes) > 8


def test_every_call_is_drawn() -> None:
    assert {draw(f"a:{number}")[0].name for number in range(3000)} == {c.name for c in CALLS}


def test_a_seed_always_draws_the_same_replies() -> None:
    for number in range(100):
        assert draw(f"a:{number}") == draw(f"a:{number}")


# A session finds what is broken


async def report_of(run: object, folder: Path) -> str:
    call = Call("broken", run, BODIES)  # type: ignore[arg-type]
    report = await run_session(folder, "a", inputs=40, calls=[call])
    return "\n".join(map(str, report.failures))


async def test_an_untyped_error_is_reported_with_the_smallest_replies(tmp_path: Path) -> None:
    async def run(clients: Clients) -> None:
        try:
            await clients.ai.run("@cf/a/b", {"prompt": "a"})
        except DecodeError as error:
            raise ZeroDivisionError from error

    report = await report_of(run, tmp_path)
    assert "ZeroDivisionError" in report
    assert "seed a:" in report
    assert len(report.partition("RawReply(")[2].partition("closes=")[0]) in range(1, 100)


async def test_a_broken_property_is_reported(tmp_path: Path) -> None:
    class Broken:
        @property
        def value(self) -> None:
            raise RecursionError

    Broken.__module__ = "cfai.broken"

    async def run(clients: Clients) -> list[Broken]:
        return [Broken()]

    assert "RecursionError" in await report_of(run, tmp_path)


async def test_a_task_that_is_left_is_reported(tmp_path: Path) -> None:
    left: list[asyncio.Task[bool]] = []

    async def run(clients: Clients) -> None:
        left.append(asyncio.create_task(asyncio.Event().wait()))

    try:
        assert "tasks are left" in await report_of(run, tmp_path)
    finally:
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def test_what_nobody_can_catch_is_reported(tmp_path: Path) -> None:
    """Errors of the event loop's callbacks, and those of finalizers."""

    async def fail_in_the_loop(clients: Clients) -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await asyncio.sleep(0)

    class Finalized:
        def __del__(self) -> None:
            raise ZeroDivisionError

    async def fail_in_a_finalizer(clients: Clients) -> None:
        Finalized()

    assert "the event loop reported" in await report_of(fail_in_the_loop, tmp_path)
    assert "not raised" in await report_of(fail_in_a_finalizer, tmp_path)


async def test_a_connection_that_is_left_is_reported(tmp_path: Path) -> None:
    sockets: list[asyncio.StreamWriter] = []

    async def run(clients: Clients) -> None:
        address = clients.ai.models._account.settings.base_url.rpartition(":")[2]
        _, writer = await asyncio.open_connection("127.0.0.1", int(address))
        sockets.append(writer)

    report = await report_of(run, tmp_path)
    assert "connections are left open" in report
    assert "connections outlive their clients" in report
    for writer in sockets:
        writer.close()


def test_the_bytes_of_a_reply_are_those_of_its_parts() -> None:
    assert RawReply((b"a", b"", b"bc"), closes=False).raw == b"abc"


# Each number of every documented body

NUMBER = re.compile(rb"(?<![\w.\"-])-?\d+(?:\.\d+)?(?![\w.\"])")
ODD_NUMBERS = (b"1e999", b"-1e999", b"9" * 400, b"9" * 5000, b"NaN", b"-1", b"0.5", b"null", b'"1"')


def with_odd_numbers(body: bytes) -> Iterator[bytes]:
    """The body once for each of its first numbers and each odd number in its place."""
    for number in islice(NUMBER.finditer(body), 12):
        for odd in ODD_NUMBERS:
            yield body[: number.start()] + odd + body[number.end() :]


@pytest.mark.parametrize(
    "call", [call for call in CALLS if "stream" not in call.name], ids=lambda call: call.name
)
async def test_any_number_may_be_odd(tmp_path: Path, call: Call) -> None:
    """Huge, negative, no number at all: an answer without it, or a typed error."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
    async with running_clients(tmp_path) as (server, clients):
        session = Session(server, clients, CALLS)
        for body in call.fitting:
            if b"data:" in body:
                continue
            for odd in with_odd_numbers(body):
                reply = RawReply((head % (len(odd), odd),), closes=False)
                reason = await session.attempt(call, [reply])
                assert reason is None, f"{odd.decode()}\n{reason}"
