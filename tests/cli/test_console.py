"""Standard streams that are full or closed, and terminals of any kind and width."""

import json
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


# Errors and notices


async def test_an_error_of_several_lines_is_indented(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """The first line is the error, the others belong to it; a hint is a line of its own."""
    fake.fails(400, 5006, "Bad input\nline 2\n\x1b[31mline 3")
    done = await cfai.run("run", "@cf/new/model", "hi")
    first, second, third, *rest = done.err.splitlines()
    assert first == "error: 400 (code 5006): Bad input"
    assert (second, third.partition("line 3")[0]) == ("  line 2", "  [31m")
    assert rest[-1].startswith("hint: the input of @cf/new/model is not known")
    assert all(line.startswith(("  ", "hint: ")) for line in rest)


@needs_terminals
async def test_a_retry_is_shown_at_a_terminal(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """In one line, with the reason and the pause; a pipe gets nothing."""
    for _ in range(2):
        fake.fails(503, 7000, "Down\nfor a while", retry_after=0.01).answers({"response": "Hi"})
    async with cfai.at_a_terminal("run", LLAMA, "hi", columns=200) as terminal:
        await terminal.shows("503 (code 7000): Down: trying again in ")
        assert await terminal.ended() == 0
    assert "for a while" not in terminal.screen
    done = await cfai.run("run", LLAMA, "hi")
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize("stdin", ["", " "])
async def test_hints_follow_the_error(stranger: Cfai, stdin: str) -> None:
    """Of a missing account: what to set, and the way without one."""
    done = await stranger.run("models", stdin=stdin.encode())
    first, *others = done.err.splitlines()
    assert done.code == 2
    assert first.startswith("error: no ")
    assert "hint: --local uses small models on this machine and needs no account" in others


# What a terminal shows


@needs_terminals
@pytest.mark.parametrize(("term", "is_dumb"), [("", True), ("unknown", True), ("xterm", False)])
async def test_terminals_without_escape_sequences(
    cfai: Cfai, fake: FakeWorkersAI, term: str, is_dumb: bool
) -> None:
    fake.streams(*pieces(" ".join(WORDS)))
    async with cfai.at_a_terminal("chat", "hi", columns=20, TERM=term) as terminal:
        assert await terminal.ended() == 0
    assert ("\x1b" not in terminal.screen) == is_dumb


@needs_terminals
async def test_no_character_controls_the_terminal(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """The control characters of ASCII and of ISO 8859-1, but tabs and newlines."""
    controls = "".join(map(chr, [*range(0x20), *range(0x7F, 0xA0)]))
    fake.streams(f"a{controls.replace(chr(9), '').replace(chr(10), '')}b\tc\xa0d")
    async with cfai.at_a_terminal("chat", "hi", columns=200) as terminal:
        assert await terminal.ended() == 0
    assert "ab\tc\xa0d\r\n" in terminal.screen


@needs_terminals
async def test_a_terminal_of_another_encoding(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """What it does not know is a question mark; JSON in a pipe is UTF-8 whatever it is."""
    ascii_only = Cfai({**cfai.variables, "PYTHONIOENCODING": "ascii"})
    fake.always.answers({"response": "Grüße"})
    async with ascii_only.at_a_terminal("run", LLAMA, "hi") as terminal:
        await terminal.shows('"response": "Gr??e"')
        assert await terminal.ended() == 0
    done = await ascii_only.run("run", LLAMA, "hi")
    assert done.text == '{"response":"Grüße"}\n'


async def test_half_an_emoji_is_replaced(cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path) -> None:
    """In a pipe and in a file: nothing that was paid for is lost to it."""
    fake.always.says(
        b'{"result": {"response": "a\\ud83d!"}, "success": true}', content_type="application/json"
    )
    target = tmp_path / "a.json"
    assert (await cfai.run("run", LLAMA, "hi", "-o", str(target))).code == 0
    for data in (target.read_bytes(), (await cfai.run("run", LLAMA, "hi")).out):
        assert json.loads(data)["response"] == "a\ufffd!"


@needs_shell
@pytest.mark.parametrize("command", ["chat", "run", "embed", "image", "speak", "markdown -"])
async def test_a_standard_input_that_cannot_be_read(
    fake: FakeWorkersAI, cfai: Cfai, tmp_path: Path, command: str
) -> None:
    """Here it is open for writing only. The error names it, and nothing is sent."""
    name, *more = command.split()
    arguments = [name, *([LLAMA] if name == "run" else []), *more]
    done = await run_redirected(f"0>{tmp_path}/file", cfai, *arguments)
    assert (done.code, done.out) == (2, b"")
    assert "can't read standard input: " in done.err
    assert "Traceback" not in done.err
    assert not fake.requests
