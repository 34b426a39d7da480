"""Standard streams that are full or closed: the message and the exit code."""

import sys
from pathlib import Path

import pytest

from cfai import __version__
from cfai.testing import FakeWorkersAI

from .processes import Cfai, Done

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


async def test_pull_into_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """The error names the folder, the reason and the variable."""
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "nope"
    done = await Cfai({"CFAI_CACHE": str(folder)}).run("pull")
    assert (done.code, done.out) == (1, b"")
    assert f"error: cannot write to {folder}: " in done.err
    assert done.err.endswith("; set CFAI_CACHE to another folder\n")
