"""The text model: repeatable, stoppable, and out of reach for anyone else."""

import platform
from functools import cache
from pathlib import Path

import pytest

from cfai.local import backends
from cfai.local.backends.roles import Ask, Ending, Writer
from cfai.local.backends.smollm2 import CONTEXT, check_processor, processor_flags
from cfai.local.faults import Fault


@cache
def model() -> Writer:
    return backends.writer()


def write(ask: Ask) -> tuple[str, Ending]:
    pieces: list[str] = []

    def hear(piece: str) -> bool:
        pieces.append(piece)
        return False

    ending = model().write(ask, hear)
    return "".join(pieces), ending


def chat(said: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": said}]


def test_the_model_answers_and_counts_its_tokens() -> None:
    text, ending = write(Ask(chat("Say hello."), max_tokens=6, seed=1))
    assert text
    assert (ending.reason, ending.completion_tokens) == ("length", 6)
    assert ending.prompt_tokens > 6


def test_a_raw_prompt_is_gone_on_with() -> None:
    _, ending = write(Ask("Once upon a time", max_tokens=4, seed=1))
    assert (ending.prompt_tokens, ending.completion_tokens) == (4, 4)


def test_it_can_be_stopped_between_two_pieces() -> None:
    heard: list[str] = []

    def hear(piece: str) -> bool:
        heard.append(piece)
        return len("".join(heard)) > 10

    ending = model().write(Ask(chat("Tell a long story."), max_tokens=1000, seed=1), hear)
    assert ending.reason == "stopped"
    assert ending.completion_tokens < 20


def test_it_can_be_stopped_while_it_reads() -> None:
    heard: list[str] = []

    def hear(piece: str) -> bool:
        heard.append(piece)
        return len(heard) > 1

    ending = model().write(Ask(chat("word " * 3000), max_tokens=1000), hear)
    assert (ending, "".join(heard)) == (Ending("stopped", 0, 0), "")


def test_more_than_the_context_is_refused() -> None:
    with pytest.raises(Fault, match=rf"the input has \d+ tokens.*context window is {CONTEXT}"):
        write(Ask(chat("word " * 5000), max_tokens=4))


def test_a_schema_that_is_none_is_refused() -> None:
    with pytest.raises(Fault, match="nonsense"):
        write(Ask(chat("hi"), max_tokens=4, schema={"type": "nonsense"}))


def test_text_that_is_no_text_is_refused() -> None:
    with pytest.raises(Fault, match="UTF-8"):
        write(Ask(chat("\ud83d"), max_tokens=4))


@pytest.mark.parametrize(
    ("flags", "missing"),
    [
        ("fpu avx2 fma f16c", None),
        ("fpu fma f16c", "avx2"),
        ("fpu", "avx2, f16c, fma"),
    ],
)
def test_a_processor_that_would_crash_is_refused(
    flags: str, missing: str | None, tmp_path: Path
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\n\nprocessor\t: 1\n")
    if missing is None:
        check_processor(processor_flags(cpuinfo))
        return
    with pytest.raises(Fault, match=f"a processor with {missing}") as caught:
        check_processor(processor_flags(cpuinfo))
    assert caught.value.status == 501


def test_a_processor_that_says_nothing_is_not_refused(tmp_path: Path) -> None:
    assert processor_flags(tmp_path / "nothing") is None
    check_processor(None)


@pytest.mark.skipif(platform.system() != "Linux", reason="reads /proc")
def test_nobody_can_connect_to_the_model_itself() -> None:
    """llama.cpp's own HTTP server has no port, and its Unix socket no name any more."""
    model()
    ours = {str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}
    for table in ("tcp", "tcp6"):
        listening = Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]
        rows = [row.split() for row in listening]
        inodes = {f"socket:[{row[9]}]" for row in rows if row[3] == "0A"}
        assert not inodes & ours
    unix = [row.split() for row in Path("/proc/self/net/unix").read_text().splitlines()[1:]]
    names = [Path(row[7]) for row in unix if len(row) > 7 and f"socket:[{row[6]}]" in ours]
    assert not [name for name in names if name.exists()]
