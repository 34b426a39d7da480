"""Standard streams that are full or closed, and terminals of any kind and width."""

import re
import sys
from pathlib import Path

import pytest

from cfai import __version__
from cfai.testing import FakeWorkersAI

from .conftest import needs_terminals
from .processes import Cfai, Done
from .screens import Screen

LLAMA = "@cf/meta/llama-3.1-8b-instruct-fast"
FULL = Path("/dev/full")

needs_full = pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")
needs_shell = pytest.mark.skipif(sys.platform == "win32", reason="there is no sh here")


async def run_redirected(redirection: str, cfai: Cfai, *arguments: str) -> Done:
    """Run the command in a shell with *redirection*."""
    async with cfai.running(*arguments, redirection=redirection) as running:
        return await running.done()


@needs_full
@pytest.mark.parametrize(
    "arguments",
    [
        ("chat", "hi"),
        ("chat", "--json", "hi"),
        ("run", LLAMA, "hi"),
        ("run", LLAMA, '{"prompt": "hi", "stream": true}'),
        ("embed", "hi"),
        ("chat", "--help"),
    ],
)
async def test_a_full_disk(cfai: Cfai, fake: FakeWorkersAI, arguments: tuple[str, ...]) -> None:
    """One line with the reason, exit code 1."""
    if arguments[0] == "chat" or "stream" in arguments[-1]:
        fake.streams("Hel", "lo")
    elif arguments[0] == "run":
        fake.answers({"response": "hi"})
    else:
        fake.answers({"shape": [1, 2], "data": [[0.5, 0.25]]})
    done = await run_redirected("> /dev/full", cfai, *arguments)
    assert (done.code, done.err) == (
        1,
        "error: can't write the answer: No space left on device\n",
    )


@needs_full
async def test_a_full_disk_for_the_demo(stranger: Cfai, text_model: Path) -> None:
    done = await run_redirected("> /dev/full", stranger, "demo")
    assert (done.code, done.err) == (
        1,
        "error: can't write the answer: No space left on device\n",
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("chat", "@"),
        ("chat", "Hi", "-s", "@"),
        ("chat", "Hi", "-a", ""),
        ("chat", "Hi", "-a", "@"),
        ("chat", "Hi", "--schema", "@"),
        ("run", "@cf/a/b", "Hi", "-o", ""),
        ("embed", "@"),
        ("markdown", ""),
        ("markdown", "@"),
        ("transcribe", ""),
        ("listen", "@"),
        ("queue", "submit", "@cf/a/b", ""),
        ("finetunes", "upload", "x", ""),
        ("serve", "--folder", ""),
    ],
)
async def test_an_empty_name_of_a_file_is_named(cfai: Cfai, arguments: tuple[str, ...]) -> None:
    """It is not the current folder."""
    done = await cfai.run(*arguments)
    assert done.code == 2
    assert "must name a file" in done.err
    assert f"got {arguments[-1]!r}" in done.err


@needs_shell
@pytest.mark.parametrize("arguments", [("--version",), ()])
async def test_a_closed_standard_output(stranger: Cfai, arguments: tuple[str, ...]) -> None:
    done = await run_redirected(">&-", stranger, *arguments)
    assert done.code == 1
    assert done.err == "error: can't write the answer: standard output is closed\n"


@needs_shell
async def test_a_closed_standard_error(stranger: Cfai) -> None:
    """Only the messages on standard error are lost."""
    done = await run_redirected("2>&-", stranger, "--version")
    assert (done.code, done.text) == (0, f"cfai {__version__}\n")
    done = await run_redirected("2>&-", stranger, "chatter")
    assert (done.code, done.text) == (2, "")


@needs_shell
async def test_all_standard_streams_closed(stranger: Cfai) -> None:
    done = await run_redirected("<&- >&- 2>&-", stranger, "chat", "hi")
    assert (done.code, done.out, done.err) == (2, b"", "")


@needs_shell
async def test_output_file_with_standard_output_closed(
    fake: FakeWorkersAI, cfai: Cfai, tmp_path: Path
) -> None:
    """-o writes the answer if standard output is closed."""
    fake.answers({"response": "hi"})
    target = tmp_path / "out.json"
    done = await run_redirected(">&-", cfai, "run", LLAMA, "hi", "-o", str(target))
    assert (done.code, done.err) == (0, "")
    assert target.read_text() == '{"response":"hi"}\n'


@needs_full
async def test_a_full_disk_for_a_file(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """The error names the file."""
    fake.answers({"response": "hi"})
    done = await cfai.run("run", LLAMA, "hi", "-o", "/dev/full")
    assert (done.code, done.out) == (2, b"")
    assert "can't write to /dev/full: No space left on device" in done.err


async def test_pull_into_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """The error names the folder, the reason and the variable."""
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "nope"
    done = await Cfai({"CFAI_CACHE": str(folder)}).run("pull")
    assert (done.code, done.out) == (1, b"")
    assert f"error: cannot write to {folder}: " in done.err
    assert done.err.endswith("; set CFAI_CACHE to another folder\n")


# Terminals

SGR = re.compile(r"\x1b\[([0-9;]*)m")
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>()][A-Z0-9]?")
WORDS = ("The quick brown fox jumps over the lazy dog. " * 3).split()

NARROW = [(20, "xterm"), (40, "xterm"), (20, "dumb"), (40, "dumb")]


def pieces(text: str) -> list[str]:
    return [text[at : at + 3] for at in range(0, len(text), 3)]


@needs_terminals
@pytest.mark.parametrize(("columns", "term"), NARROW)
async def test_words_are_not_broken_at_the_margin(
    cfai: Cfai, fake: FakeWorkersAI, columns: int, term: str
) -> None:
    """Of an answer that is printed while it arrives. A dumb terminal gets no escape sequences."""
    fake.streams(*pieces(" ".join(WORDS)))
    async with cfai.at_a_terminal("chat", "hi", columns=columns, TERM=term) as terminal:
        assert await terminal.ended() == 0
    screen = Screen(columns)
    screen.write(terminal.screen.replace("\r\n", "\n"))
    assert screen.text.split() == WORDS
    assert max(map(len, screen.text.splitlines())) < columns
    if term == "dumb":
        assert "\x1b" not in terminal.screen


@needs_terminals
@pytest.mark.parametrize("source", ["chat", "transcribe"])
async def test_a_pipe_gets_the_text_as_it_is(
    cfai: Cfai, fake: FakeWorkersAI, source: str, tmp_path: Path
) -> None:
    """Also if a variable says how wide a terminal would be."""
    text, file = " ".join(WORDS), tmp_path / "a.mp3"
    file.write_bytes(b"ID3\x04")
    narrow = Cfai({**cfai.variables, "COLUMNS": "20"})
    if source == "chat":
        fake.streams(*pieces(text))
        done = await narrow.run("chat", "hi")
    else:
        fake.answers({"text": text})
        done = await narrow.run("transcribe", str(file))
    assert done.text == f"{text}\n"


@needs_terminals
@pytest.mark.parametrize(("columns", "term"), NARROW)
async def test_a_conversation_at_a_narrow_terminal(
    cfai: Cfai, fake: FakeWorkersAI, columns: int, term: str
) -> None:
    """Prompt, answer, error and exit work. A dumb terminal gets no escape sequences."""
    fake.streams("Yes, of course.")
    fake.fails(400, 5006, "Bad input")
    async with cfai.at_a_terminal("chat", columns=columns, TERM=term) as terminal:
        await terminal.shows(">")
        terminal.types("Are you there?\n")
        await terminal.shows("Yes, of course.")
        await terminal.shows(">")
        terminal.types("And?\n")
        await terminal.shows("error: 400 (code 5006): Bad input")
        await terminal.shows(">")
        terminal.types("/exit\n")
        assert await terminal.ended() == 0
    if term == "dumb":
        assert not ESCAPES.findall(terminal.screen)


@needs_terminals
@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {}])
async def test_colours_can_be_turned_off(
    stranger: Cfai, text_model: Path, variables: dict[str, str]
) -> None:
    """By NO_COLOR (source: no-color.org), which leaves bold and dim, and by a dumb terminal."""
    async with stranger.at_a_terminal("demo", columns=40, **variables) as terminal:
        assert await terminal.ended() == 0
    codes = {code for part in SGR.findall(terminal.screen) for code in part.split(";")}
    has_colours = any(code.startswith(("3", "4", "9")) for code in codes)
    assert has_colours == (not variables)
    assert ("\x1b" in terminal.screen) == (variables.get("TERM") != "dumb")


@needs_terminals
@pytest.mark.parametrize("columns", [40, 60, 100])
@pytest.mark.parametrize(
    "arguments", [("--help",), ("chat", "--help"), ("embed", "-h"), ("serve", "-h"), ("models",)]
)
async def test_help_and_tables_at_a_narrow_terminal(
    cfai: Cfai, fake: FakeWorkersAI, columns: int, arguments: tuple[str, ...]
) -> None:
    fake.always.answers([{"name": "@cf/meta/llama-3.1-8b-instruct-fast", "task": {"name": "Text"}}])
    async with cfai.at_a_terminal(*arguments, columns=columns) as terminal:
        assert await terminal.ended() == 0
    lines = ESCAPES.sub("", terminal.screen).splitlines()
    assert "Usage" in terminal.screen or "llama" in terminal.screen
    assert max(map(len, lines)) <= columns, max(lines, key=len)
