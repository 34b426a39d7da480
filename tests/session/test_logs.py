"""The log of requests: one logger, a line per attempt, no secrets, and no cost if it is off."""

import asyncio
import logging
import os
import re
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from cfai import Cohere, Prompt, WorkersAI
from cfai._session.logs import configure_logging
from cfai.errors import CfaiError, ConfigError
from cfai.settings import Gateway, Options, Retries, Timeouts
from cfai.tasks import TextGeneration, user
from cfai.testing import FakeWorkersAI

MODEL = "@cf/meta/llama-3.1-8b-instruct-fast"
PROMPT = Prompt("The user's own words")
TOKEN = "a-token-of-0123456789-abcdefgh"  # noqa: S105  # made up
QUICK = Retries(max=1, base=0.001)

PATH = f"/accounts/***/ai/run/{MODEL}"


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What was logged so far, with `N` for numbers of seconds."""
    caplog.set_level(logging.DEBUG, logger="cfai")

    def logged() -> list[str]:
        records = [record for record in caplog.records if record.name == "cfai"]
        assert all(record.levelno == logging.DEBUG for record in records)
        return [re.sub(r"\d+\.\d{3} s", "N s", record.getMessage()) for record in records]

    return logged


BUSY = "CapacityExceeded (429, code 3040)"
LOST = "ConnectionLost (the connection was lost before an answer arrived)"

Script = Callable[[FakeWorkersAI], Any]

ATTEMPTS: dict[str, tuple[Script, list[str]]] = {
    "an answer": (
        lambda fake: fake.answers({"response": "Hi"}),
        [f"POST {PATH}: 200 in N s (attempt 1)"],
    ),
    "a retry": (
        lambda fake: (fake.fails(429, 3040, "Capacity"), fake.answers({"response": "Hi"})),
        [
            f"POST {PATH}: 429 in N s (attempt 1)",
            f"POST {PATH}: {BUSY} after N s (attempt 1); attempt 2 in N s",
            f"POST {PATH}: 200 in N s (attempt 2)",
        ],
    ),
    "an error": (
        lambda fake: fake.fails(400, 5006, "bad words of the user"),
        [
            f"POST {PATH}: 400 in N s (attempt 1)",
            f"POST {PATH}: BadRequest (400, code 5006) after N s (attempt 1); no further attempt",
        ],
    ),
    "a lost connection": (
        lambda fake: (fake.hangs_up(), fake.answers({"response": "Hi"})),
        [
            f"POST {PATH}: {LOST} after N s (attempt 1); attempt 2 in N s",
            f"POST {PATH}: 200 in N s (attempt 2)",
        ],
    ),
    "no JSON": (
        lambda fake: fake.says(b"words of the model"),
        [
            f"POST {PATH}: 200 in N s (attempt 1)",
            f"POST {PATH}: DecodeError after N s (attempt 1); no further attempt",
        ],
    ),
}


@pytest.mark.parametrize("name", ATTEMPTS)
async def test_each_attempt_is_logged(
    fake: FakeWorkersAI, lines: Callable[[], list[str]], name: str
) -> None:
    """With method, path, status, seconds, number, pause and reason."""
    script, expected = ATTEMPTS[name]
    script(fake)
    client = fake.client(retries=QUICK)
    with suppress(CfaiError):
        await client.run(MODEL, PROMPT)
    assert lines() == expected


async def test_a_stream_is_logged_with_its_headers(
    fake: FakeWorkersAI, lines: Callable[[], list[str]]
) -> None:
    fake.streams("Hel", asyncio.Event())
    async with fake.client().stream(MODEL, PROMPT) as tokens:
        assert str(await anext(tokens)) == "Hel"
        assert lines() == [f"POST {PATH}: 200 in N s (attempt 1)"]


async def test_a_timeout_is_logged_with_its_limit(
    fake: FakeWorkersAI, lines: Callable[[], list[str]]
) -> None:
    fake.stalls()
    client = fake.client(timeouts=Timeouts(response=0.01))
    with pytest.raises(CfaiError):
        await client.run(MODEL, PROMPT)
    (line,) = lines()
    assert "RequestTimeout (no complete answer within 0.01 s (Timeouts.response))" in line


CALLS: dict[str, Callable[[WorkersAI], Awaitable[Any]]] = {
    "run": lambda ai: ai.run(MODEL, PROMPT),
    "messages": lambda ai: ai.run(MODEL, TextGeneration([user("words")])),
    "stream": lambda ai: ai.stream(MODEL, PROMPT).collect(),
    "chat": lambda ai: ai.run(MODEL, [user("words")], options=Options(route="chat")),
    "embed": lambda ai: ai.embed("@cf/baai/bge-m3", ["words"]),
    "queue": lambda ai: ai.queue("@cf/baai/bge-m3", [{"text": ["words"]}]),
    "models": lambda ai: ai.models.search("words").to_list(),
    "finetunes": lambda ai: ai.finetunes.list().to_list(),
    "markdown": lambda ai: ai.to_markdown([("words.txt", b"words")]),
    "a header": lambda ai: ai.run(MODEL, PROMPT, options=Options(headers={"X-Api-Key": TOKEN})),
    "the token in the path": lambda ai: ai.with_options(account_id=TOKEN).run(MODEL, PROMPT),
}


@pytest.mark.parametrize("status", [200, 400, 500])
@pytest.mark.parametrize("name", CALLS)
async def test_no_line_contains_a_secret_or_a_body(
    fake: FakeWorkersAI, caplog: pytest.LogCaptureFixture, name: str, status: int
) -> None:
    """Even if the service repeats the token and the user's words."""
    caplog.set_level(logging.DEBUG, logger="cfai")
    echo = f"words, and Bearer {TOKEN} of account-0123456789"
    fake.always.answers({"echo": echo, "errors": [{"message": echo, "code": 7}]}, status=status)
    client = fake.client(
        api_token=TOKEN,
        account_id="account-0123456789",
        gateway=Gateway("gw", authorization=TOKEN[::-1]),
        retries=QUICK,
    )
    with suppress(CfaiError):
        await CALLS[name](client)
    assert caplog.records
    for record in caplog.records:
        for secret in (TOKEN, TOKEN[::-1], "account-0123456789", "words", TOKEN[:8]):
            assert secret not in record.getMessage().replace("words.txt", "")


async def test_the_account_is_hidden_in_the_path_of_a_web_socket(
    fake: FakeWorkersAI, lines: Callable[[], list[str]]
) -> None:
    """Through AI Gateway, whose paths have no `accounts/` before it."""
    fake.fails(401, 0, "who?")
    client = fake.client(account_id="account-0123456789", gateway=Gateway("gw"))
    with suppress(CfaiError):
        await client.listen("@cf/deepgram/nova-3", encoding="mulaw", sample_rate=8000).open()
    assert lines()[0] == "GET /v1/***/gw/workers-ai: 401 in N s (attempt 1)"


@pytest.mark.filterwarnings("ignore:Cohere deprecated")
async def test_coheres_client_logs_likewise(
    fake: FakeWorkersAI, lines: Callable[[], list[str]]
) -> None:
    fake.fails(401, 0, "who?")
    async with Cohere(api_key=TOKEN, base_url=fake.origin) as client:
        with pytest.raises(CfaiError):
            await client.get("a-model")
    assert lines()[0] == ("GET /v1/finetuning/finetuned-models/a-model: 401 in N s (attempt 1)")


async def test_nothing_is_computed_if_the_log_is_off(
    fake: FakeWorkersAI, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="cfai")
    fake.fails(503, 0, "down")
    fake.answers({"response": "Hi"})
    await fake.client(retries=QUICK).run(MODEL, PROMPT)
    assert not [record for record in caplog.records if record.name == "cfai"]


# CFAI_LOG

PROGRAM = """
import asyncio, logging, sys
from cfai import Prompt, WorkersAI
{before}
async def main():
    async with WorkersAI(account_id="a", api_token="t", base_url=sys.argv[1]) as ai:
        await ai.run("@cf/a/b", Prompt("Hello?"))
    async with WorkersAI(account_id="a", api_token="t", base_url=sys.argv[1]):
        pass
asyncio.run(main())
"""

LINE = (
    r"[\d:, -]+ cfai DEBUG POST /accounts/\*\*\*/ai/run/@cf/a/b: 200 in \d+\.\d+ s \(attempt 1\)\n"
)


@pytest.mark.parametrize(
    ("level", "before", "expected"),
    [
        ("debug", "", LINE),
        ("DEBUG", "", LINE),
        ("info", "", ""),
        ("", "", ""),
        ("debug", "logging.basicConfig(format='own %(message)s')", r"own POST .*: 200 .*\n"),
        (
            "",
            "logging.basicConfig(level='DEBUG', format='own %(name)s')",
            r"(own \w+\n)*own cfai\n",
        ),
    ],
)
async def test_a_variable_turns_on_the_log(
    fake: FakeWorkersAI, level: str, before: str, expected: str
) -> None:
    """On standard error, once, and through the program's own handlers if it has some."""
    fake.always.answers({"response": "Hi"})
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM.format(before=before), fake.base_url),
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "CFAI_LOG": level},
    )
    _, errors = await process.communicate()
    assert re.fullmatch(expected, errors.decode()), errors.decode()


CONSTRUCTORS: dict[str, Callable[[], object]] = {
    "WorkersAI": lambda: WorkersAI(account_id="a", api_token="t"),
    "Cohere": lambda: Cohere(api_key="k"),
}


@pytest.mark.filterwarnings("ignore:Cohere deprecated")
@pytest.mark.parametrize("client", CONSTRUCTORS)
@pytest.mark.parametrize("level", ["verbose", "10", "debug "])
def test_an_unknown_level_is_refused(
    monkeypatch: pytest.MonkeyPatch, level: str, client: str
) -> None:
    """By the constructor, which reads the environment."""
    monkeypatch.setenv("CFAI_LOG", level)
    with pytest.raises(ConfigError, match="CFAI_LOG must be one of debug, info"):
        CONSTRUCTORS[client]()
    with pytest.raises(ConfigError, match="got"):
        configure_logging()
