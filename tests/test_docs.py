"""Runs every code block of the README and the docs, in the order of the page.

The environment points at a local Workers AI server instead of an account. The Python blocks of a
page share their names and may `await` at the top level. A block that defines tests is run by
pytest, with the imports and constants of the blocks before it.
A comment on the line before a block changes that. `<!-- not run: needs a browser -->` skips the
block; the reason is required. A shell block needs this comment or `<!-- run -->`.
`<!-- needs: duckdb -->` skips the block if that module, or Postgres with pgvector, is missing;
`<!-- needs: vision -->` downloads what `cfai pull vision` does.
`<!-- scripted: image -->` replaces the page's client, `ai`, by one with a scripted service, for
tasks without a local model; `<!-- scripted: cohere -->` does the same with `cohere`.
"""

import ast
import asyncio
import inspect
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from attrs import frozen

import cfai
from cfai.local import Server, weights
from cfai.testing import FakeCohere, FakeWorkersAI
from tests.limits import extend_limit

ROOT = Path(__file__).parents[1]

FENCE = re.compile(
    r"^(?P<indent>[ ]*)```(?P<language>python|bash|console|shell|sh)[ ]*\n"
    r"(?P<code>.*?)^(?P=indent)```[ ]*$",
    re.MULTILINE | re.DOTALL,
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
NOT_RUN = re.compile(r"<!-- not run: \S.* -->")
SHOWN_ERROR = re.compile(r"print\(error\)[ ]+# (?P<message>.+)$", re.MULTILINE)
NEEDS = re.compile(r"<!-- needs: (?P<name>[a-z_]+) -->")
SCRIPTED = re.compile(r"<!-- scripted: (?P<name>[a-z ]+) -->")

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c49444154789c63f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
)
FINETUNE = "182bd5e5-6e1a-4fe4-a799-aa6d9a6ab26e"
LLAMA = {
    "id": "7a143886-c9bb-4a1c-be95-377b1973bc3b",
    "name": "@cf/meta/llama-3.3-70b-instruct-fp8-fast",
    "task": {"name": "Text Generation"},
    "properties": [
        {"property_id": "context_window", "value": "24000"},
        {
            "property_id": "price",
            "value": [{"unit": "per M input tokens", "price": 0.29, "currency": "USD"}],
        },
    ],
}
WEATHER = {
    "response": "",
    "tool_calls": [{"name": "get_weather", "arguments": {"city": "Lima", "days": 2}}],
}


async def speak_at_flush(socket: Any) -> None:
    """Answer as a voice does: with sound when the text is complete."""
    while (message := await socket.receive()) is not None:
        if message == '{"type":"Flush"}':
            await socket.send(bytes(4800), {"type": "Flushed"})


SCRIPTS: dict[str, Callable[[Any], object]] = {
    "cohere": lambda fake: fake.adds("chat-ft"),
    "decisions": lambda fake: fake.always.answers(
        {
            "model": "clef",
            "answers": {
                "refund": {"type": "noul", "noul": 0.97},
                "team": {
                    "type": "choice",
                    "choice": "billing",
                    "probabilities": {"billing": 0.9, "support": 0.1},
                    "confidence": 0.8,
                },
                "anger": {
                    "type": "score",
                    "score": 1.6,
                    "legend": {"0": "calm", "1": "upset", "2": "furious"},
                    "probabilities": {"0": 0.1, "1": 0.2, "2": 0.7},
                    "confidence": 0.5,
                },
            },
            "usage": {"input_tokens": 213, "output_tokens": 0},
        }
    ),
    "description": lambda fake: fake.answers({"description": "In the snow."}),
    "extraction": lambda fake: fake.always.answers(
        {
            "model": "clairic",
            "answers": {
                "number": {
                    "type": "text",
                    "value": "A1",
                    "guess": "A1",
                    "p_null": 0.01,
                    "confidence": 0.98,
                    "span": [8, 10],
                },
                "total": {"type": "number", "value": 125, "confidence": 0.9},
                "due": {"type": "date", "value": None, "p_null": 0.97},
                "items": {"type": "list", "value": ["a lamp", "a desk"]},
                "cost": {"type": "estimate", "value": 130, "median": 130, "p90": 250},
                "orders": {"type": "forecast", "value": None, "steps": [{"median": 95}] * 7},
            },
            "truncated": False,
            "usage": {"input_tokens": 80, "output_tokens": 0},
        }
    ),
    "fine tune": lambda fake: (
        fake.answers({"id": FINETUNE, "model": "@cf/mistral/mistral-7b", "name": "pirate"})
        .says(b'{"success":true}')
        .says(b'{"success":true}')
        .answers({"response": "Arr!"})
    ),
    "fine tunes": lambda fake: fake.always.answers(
        [{"id": FINETUNE, "model": "@cf/mistral/mistral-7b", "name": "pirate"}]
    ),
    "routes": lambda fake: (
        fake.says('{"choices":[{"message":{"content":"Hello"},"finish_reason":"stop"}]}')
        .answers({"state": "Completed", "result": {"choices": [{"message": {"content": "Hi"}}]}})
        .says(b'data: {"choices":[{"delta":{"content":"Hello"}}]}\n\ndata: [DONE]\n\n')
    ),
    "catalogue": lambda fake: fake.always.answers([LLAMA]),
    "image": lambda fake: fake.says(PNG, content_type="image/png"),
    "labels": lambda fake: fake.answers(
        [{"label": "RED FOX", "score": 0.9}, {"label": "KIT FOX", "score": 0.1}]
    ),
    "queue": lambda fake: (
        fake.answers({"status": "queued", "request_id": FINETUNE})
        .answers({"responses": [{"id": 0, "success": True, "result": {"response": "Hello"}}]})
        .answers({"status": "running", "request_id": FINETUNE})
    ),
    "queue of two": lambda fake: fake.answers({"status": "queued", "request_id": FINETUNE}).answers(
        {
            "responses": [
                {"id": 0, "success": True, "result": {"response": "Hello"}},
                {"id": 1, "success": True, "result": {"response": "Goodbye"}},
            ]
        }
    ),
    "schema": lambda fake: fake.answers(
        {"input": {"required": ["prompt"]}, "output": {"type": "object"}}
    ),
    "markdown": lambda fake: fake.answers(
        [
            {"name": "a.html", "format": "markdown", "tokens": 2, "data": "# Hello"},
            {"name": "b.pdf", "format": "error", "error": "no PDF"},
        ]
    ),
    "formats": lambda fake: fake.answers([{"extension": ".html", "mimeType": "text/html"}]),
    "listening": lambda fake: fake.connects(
        {"type": "Connected", "request_id": "r"},
        at_end=[
            {
                "type": "Results",
                "channel": {"alternatives": [{"transcript": "hello", "words": []}]},
                "is_final": final,
            }
            for final in (False, True)
        ],
    ),
    "speaking": lambda fake: fake.connects_by(speak_at_flush),
    "voice chat": lambda fake: (
        fake.streams("Once", " upon a time. The", " end.").on("aura").connects_by(speak_at_flush)
    ),
    "speech": lambda fake: fake.says(b"ID3\x04" + bytes(64), content_type="audio/mpeg"),
    "tool round": lambda fake: fake.answers(
        {"response": None, "tool_calls": [{"name": "get_weather", "arguments": {"city": "Lima"}}]}
    ).answers({"response": "In Lima it is dry, at 22 degrees."}),
    "weather": lambda fake: fake.answers(WEATHER).answers({"response": "In Lima it is dry."}),
    "streamed weather": lambda fake: fake.streams(WEATHER).streams("In Lima ", "it is dry."),
    "a page": lambda fake: fake.answers(
        {"response": "", "tool_calls": [{"name": "look", "arguments": {"url": "/faq"}}]}
    ).answers({"response": "We open at 9."}),
    "again and again": lambda fake: fake.always.answers(WEATHER),
    "wrong recipe": lambda fake: fake.answers({"response": "Pancakes are easy!"}),
    "repaired recipe": lambda fake: fake.answers({"response": "Pancakes are easy!"}).answers(
        {"response": {"title": "Pancakes", "minutes": 20, "ingredients": []}}
    ),
    "pydantic": lambda fake: (
        fake.answers(
            {"response": {"steps": [{"explanation": "Boil it.", "minutes": 5}], "result": "Tea"}}
        )
        .answers({"response": {"value": [{"explanation": "Boil it.", "minutes": 5}]}})
        .answers({"response": {"value": 4}})
    ),
    "streamed plan": lambda fake: fake.streams(
        '{"steps": [{"explanation": "Boil it.",', ' "minutes": 5}],', ' "result": "Tea"}'
    ),
    "transcript": lambda fake: fake.answers(
        {"text": "Hello there", "words": [{"word": "Hello", "start": 0, "end": 0.4}]}
    ),
    "translation": lambda fake: fake.answers({"translated_text": "Buenos días"}),
}
"""The responses of the scripted service, in the formats of the API's schema."""


@frozen
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    code: str
    remark: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def runs(self) -> bool:
        if self.language == "python":
            return not NOT_RUN.fullmatch(self.remark)
        return self.remark == "<!-- run -->"

    @property
    def is_explained(self) -> bool:
        """Whether the block has the comment that it needs."""
        if NOT_RUN.fullmatch(self.remark):
            return True
        if self.language == "python":
            known = SCRIPTED.fullmatch(self.remark) or NEEDS.fullmatch(self.remark)
            return not self.remark.startswith("<!--") or bool(known)
        return self.remark == "<!-- run -->"


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of *page*, with the comment on the line before each."""
    text = page.read_text()
    for fence in FENCE.finditer(text):
        before = text[: fence.start()]
        remark = before.rstrip("\n").rpartition("\n")[2].strip()
        code = inspect.cleandoc("\n" + fence["code"]) + "\n"
        yield Block(page, before.count("\n") + 2, fence["language"], code, remark)


def anchors(page: Path) -> set[str]:
    """The link targets of the headings of *page*."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = [block for page in PAGES for block in blocks(page) if block.runs]


@pytest.fixture(scope="session")
def credentials() -> Iterator[dict[str, str]]:
    """The credentials of a local server, which runs in a thread."""
    started: Future[dict[str, str]] = Future()
    stop = asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with Server() as server:
            started.set_result({name: str(value) for name, value in server.credentials.items()})
            await stop.wait()

    def run() -> None:
        try:
            loop.run_until_complete(serve())
        except BaseException as error:
            started.set_exception(error)
            raise
        finally:
            loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield started.result()
        loop.call_soon_threadsafe(stop.set)
    finally:
        thread.join()


def run_outside(folder: Path, *command: str) -> None:
    """Run *command* with this environment's programs, and fail with its output."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    run = subprocess.run(
        command,
        check=False,
        cwd=folder,
        env=os.environ | {"PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert run.returncode == 0, run.stdout


class Page:
    """The state shared by the blocks of a page: a folder, an event loop and their names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runner = asyncio.Runner()
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.heads: list[str] = []

    def remember(self, block: Block) -> None:
        """Store the imports and constants of a block for the tests of a later block."""
        for node in ast.parse(block.code).body:
            constant = isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            if constant or isinstance(node, ast.Import | ast.ImportFrom):
                self.heads.append(ast.unparse(node))

    async def scripted(self, script: str, run: Awaitable[object]) -> None:
        """Run a block with the page's client replaced by one with a scripted service."""
        name, service = ("cohere", FakeCohere) if script == "cohere" else ("ai", FakeWorkersAI)
        original = self.names[name]
        async with service() as fake:
            SCRIPTS[script](fake)
            with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
                self.names[name] = fake.client()
            await run
        self.names[name] = original

    def run(self, block: Block) -> None:
        """Run a block in this process."""
        tree = ast.increment_lineno(ast.parse(block.code), block.line - 1)
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code = compile(tree, str(block), "exec", flags=flags, dont_inherit=True)
        if script := SCRIPTED.fullmatch(block.remark):
            run = eval(code, self.names)  # noqa: S307  # our own page
            self.runner.run(self.scripted(script["name"], run))
        elif code.co_flags & inspect.CO_COROUTINE:
            self.runner.run(eval(code, self.names))  # noqa: S307  # our own page
        else:
            exec(code, self.names)  # noqa: S102  # our own page

    def test(self, block: Block) -> None:
        """Run the tests of a block with pytest, in a file of their own."""
        (self.folder / "conftest.py").write_text('pytest_plugins = ["cfai.testing.plugin"]\n')
        (self.folder / "test_page.py").write_text("\n".join([*self.heads, block.code]))
        options = ["-q", "-W", "error", "-o", "asyncio_mode=auto", "-p", "no:cacheprovider"]
        options += ["-o", "asyncio_default_fixture_loop_scope=function"]
        run_outside(self.folder, sys.executable, "-m", "pytest", *options, "test_page.py")
        exec("\n".join(self.heads), self.names)  # noqa: S102  # our own page


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a Postgres with pgvector, which is started for these tests if it is there."""
    for module in ("psycopg", "pgvector"):
        pytest.importorskip(module, reason="run nox -s stores")
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not folders or not list(Path("/usr/share/postgresql").glob("*/extension/vector.control")):
        pytest.skip("Postgres with pgvector is missing: apt-get install postgresql-NN-pgvector")
    programs = folders[-1]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''"
    with TemporaryDirectory() as folder:
        # It refuses to run as root, and another user can't enter root's folder of tests.
        prefix = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        if prefix:
            shutil.chown(folder, "postgres")
        data = f"{folder}/data"
        home = Path(folder)
        run_outside(home, *prefix, f"{programs}/initdb", "-D", data, "-U", "tests", "-A", "trust")
        control = [*prefix, f"{programs}/pg_ctl", "-D", data, "-w"]
        run_outside(home, *control, "-l", f"{data}/log", "-o", settings, "start")
        yield f"postgresql://tests@127.0.0.1:{port}/postgres"
        run_outside(home, *control, "-m", "immediate", "stop")


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Path, Page]]:
    paths = {block.page for block in BLOCKS}
    pages = {path: Page(tmp_path_factory.mktemp(path.stem)) for path in paths}
    yield pages
    for page in pages.values():
        page.runner.close()


def test_the_readme_is_tested() -> None:
    """An empty list of blocks would pass."""
    assert PAGES[0].is_file()


def test_skipped_blocks_have_a_reason() -> None:
    """A misspelled comment is an error; a shell block needs a comment."""
    for page in PAGES:
        for block in blocks(page):
            assert block.is_explained, f"{block}: {block.remark or 'no remark'}"


@pytest.mark.parametrize(
    ("language", "remark", "explained"),
    [
        ("bash", "<!-- run -->", True),
        ("console", "<!-- not run: serves until it is stopped -->", True),
        ("bash", "", False),
        ("sh", "as in:", False),
        ("console", "<!-- not run -->", False),
        ("bash", "<!-- scripted: image -->", False),
        ("python", "as in:", True),
        ("python", "<!-- scripted: image -->", True),
        ("python", "<!-- needs: duckdb -->", True),
        ("bash", "<!-- needs: duckdb -->", False),
        ("python", "<!-- skip -->", False),
        ("python", "<!-- not run: -->", False),
    ],
)
def test_which_remarks_explain_a_block(language: str, remark: str, explained: bool) -> None:
    """The rule above detects violations."""
    assert Block(ROOT / "README.md", 1, language, "", remark).is_explained == explained


def test_the_tables_are_up_to_date() -> None:
    """The tables of fields, options and names agree with the code."""
    run_outside(ROOT, sys.executable, "docs/tables.py", "--check")


def test_the_reference_lists_every_public_name() -> None:
    text = (ROOT / "docs" / "api.md").read_text()
    missing = [name for name in cfai.__all__ if f"`cfai.{name}`" not in text]
    assert missing == ["__version__"]


def test_the_links_between_the_pages_are_valid() -> None:
    """Each relative link leads to an existing file, and to an existing heading if it has one."""
    count = 0
    for page in PAGES:
        for link in LINK.findall(FENCE.sub("", page.read_text())):
            if "://" in link:
                continue
            path, _, heading = link.partition("#")
            target = page.parent / path if path else page
            assert target.exists(), f"{page.name}: {link}"
            assert not heading or heading in anchors(target), f"{page.name}: {link}"
            count += 1
    assert count > 10


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_the_block_runs(
    request: pytest.FixtureRequest,
    block: Block,
    credentials: dict[str, str],
    pages: dict[Path, Page],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The block works as shown, and its errors have the messages shown."""
    page = pages[block.page]
    if needed := NEEDS.fullmatch(block.remark):
        if needed["name"] == "postgres":
            monkeypatch.setenv("DATABASE_URL", request.getfixturevalue("postgres"))
        elif needed["name"] in weights.BY_TASK:
            extend_limit(request.config, 600)
            for model in weights.BY_TASK[needed["name"]]:
                weights.ensure(model)
        else:
            pytest.importorskip(needed["name"], reason="see the sessions of nox")
    if "dask" in block.code:  # It takes seconds to import, and each of its workers does.
        extend_limit(request.config, 300)
    monkeypatch.chdir(page.folder)
    for name, value in credentials.items():
        monkeypatch.setenv(f"CLOUDFLARE_{name.upper()}", value)
    if block.language != "python":
        code = re.sub(r"^\$ ", "", block.code, flags=re.MULTILINE)
        run_outside(page.folder, "bash", "-euo", "pipefail", "-c", code)
        return
    page.remember(block)
    if re.search(r"^(async )?def test_", block.code, re.MULTILINE):
        page.test(block)
    else:
        page.run(block)
        output = capsys.readouterr().out.splitlines()
        for shown in SHOWN_ERROR.finditer(block.code):
            assert shown["message"] in output
