"""The text model: reproducible, stoppable, and not reachable by other processes."""

import gc
import os
import platform
import socket
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from cfai.local import backends
from cfai.local.backends.roles import GenerationEnd, GenerationRequest, TextGenerator
from cfai.local.backends.smollm2 import CONTEXT, SmolLM2, check_processor, processor_flags
from cfai.local.errors import ApiError


@cache
def model() -> TextGenerator:
    return backends.text_generator()


def generate(request: GenerationRequest) -> tuple[str, GenerationEnd]:
    pieces: list[Any] = []

    end = model().generate(request, pieces.append, lambda: False)
    return "".join(pieces), end


def chat(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_the_model_answers_and_counts_its_tokens() -> None:
    text, end = generate(GenerationRequest(chat("Say hello."), max_tokens=6, seed=1))
    assert text
    assert (end.reason, end.completion_tokens) == ("length", 6)
    assert end.prompt_tokens > 6


def test_a_raw_prompt_is_continued() -> None:
    _, end = generate(GenerationRequest("Once upon a time", max_tokens=4, seed=1))
    assert (end.prompt_tokens, end.completion_tokens) == (4, 4)


def test_a_generation_can_be_stopped_between_two_pieces() -> None:
    pieces: list[Any] = []

    request = GenerationRequest(chat("Tell a long story."), max_tokens=1000, seed=1)
    end = model().generate(request, pieces.append, lambda: len("".join(pieces)) > 10)
    assert end.reason == "stopped"
    assert end.completion_tokens < 20


@pytest.mark.parametrize("raw", [False, True])
def test_a_generation_ends_before_a_stop_text(*, raw: bool) -> None:
    question = "Count from one to ten."
    prompt = question if raw else chat(question)
    request = GenerationRequest(prompt, max_tokens=30, seed=1)
    text, _ = generate(request)
    word = text.split()[2]
    stopped, end = generate(evolve(request, stop=(word, "never written")))
    assert stopped == text.partition(word)[0]
    assert end.reason == "stop"


def test_a_generation_can_be_stopped_while_reading_the_prompt() -> None:
    pieces: list[Any] = []

    request = GenerationRequest(chat("word " * 3000), max_tokens=1000)
    end = model().generate(request, pieces.append, lambda: len(pieces) > 1)
    assert (end, "".join(pieces)) == (GenerationEnd("stopped", 0, 0), "")


def test_a_prompt_longer_than_the_context_is_refused() -> None:
    with pytest.raises(ApiError, match=rf"the input has \d+ tokens.*context window is {CONTEXT}"):
        generate(GenerationRequest(chat("word " * 5000), max_tokens=4))


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        (["a"] * 4097, "the input has 4097 bytes in 4097 messages, more than the model's context"),
        (["é" * 165_889], "the input has 331778 bytes in 1 message, more than the model's context"),
        ([["x" * 331_777]], "the input has 331777 bytes in 1 message, more"),
    ],
)
def test_a_prompt_that_cannot_fit_is_refused(messages: list[Any], words: str) -> None:
    """A token of this model has 81 bytes at most, and a message at least one token."""
    prompt = [
        {
            "role": "user",
            "content": text if isinstance(text, str) else [{"type": "text", "text": text[0]}],
        }
        for text in messages
    ]
    with pytest.raises(ApiError) as caught:
        generate(GenerationRequest(prompt, max_tokens=4))
    assert caught.value.message.startswith(words)
    assert "window of 4096 tokens can hold" in caught.value.message


def test_a_seed_is_a_number_of_32_bits() -> None:
    """The library takes the highest one for a random one: it counts as the lowest."""
    prompt = chat("Name three towns.")
    texts = [
        generate(GenerationRequest(prompt, max_tokens=12, seed=seed, sampling={"temperature": 2}))[
            0
        ]
        for seed in (1, 2**32, 2, 2**32 + 1)
    ]
    assert texts[0] == texts[1] != texts[2] == texts[3]


def test_an_invalid_schema_is_refused() -> None:
    with pytest.raises(ApiError, match="nonsense"):
        generate(GenerationRequest(chat("hi"), max_tokens=4, schema={"type": "nonsense"}))


def test_text_that_is_not_unicode_is_refused() -> None:
    with pytest.raises(ApiError, match="UTF-8"):
        generate(GenerationRequest(chat("\ud83d"), max_tokens=4))


@pytest.mark.parametrize(
    ("flags", "missing"),
    [
        ("fpu avx2 fma f16c", None),
        ("fpu fma f16c", "avx2"),
        ("fpu", "avx2, f16c, fma"),
    ],
)
def test_a_processor_without_the_required_features_is_refused(
    flags: str, missing: str | None, tmp_path: Path
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\n\nprocessor\t: 1\n")
    if missing is None:
        check_processor(processor_flags(cpuinfo))
        return
    with pytest.raises(ApiError, match=f"a processor with {missing}") as caught:
        check_processor(processor_flags(cpuinfo))
    assert caught.value.status == 501


@pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"), reason="reads /proc/cpuinfo"
)
def test_the_processor_is_checked_before_the_model_is_loaded(tmp_path: Path) -> None:
    """The library would end the process."""
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nflags\t\t: fpu avx2 fma\n")
    with pytest.raises(ApiError, match="a processor with f16c"):
        SmolLM2(tmp_path / "nothing.gguf", cpuinfo=cpuinfo)
    with pytest.raises(ApiError, match="cannot load the text model"):
        SmolLM2(tmp_path / "nothing.gguf")


def test_a_processor_with_unknown_features_is_not_refused(tmp_path: Path) -> None:
    assert processor_flags(tmp_path / "nothing") is None
    check_processor(None)


@pytest.mark.skipif(platform.system() != "Linux", reason="reads /proc")
def test_other_processes_cannot_connect_to_the_model() -> None:
    """llama.cpp's HTTP server has no port, and its Unix socket is deleted."""
    model()
    sockets = {
        str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()
    }
    # Servers that other tests run in this process are Python's.
    others = [item for item in gc.get_objects() if isinstance(item, socket.socket)]
    sockets -= {f"socket:[{os.fstat(fd).st_ino}]" for item in others if (fd := item.fileno()) >= 0}
    for table in ("tcp", "tcp6"):
        listening = Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]
        rows = [row.split() for row in listening]
        inodes = {f"socket:[{row[9]}]" for row in rows if row[3] == "0A"}
        assert not inodes & sockets
    unix = [row.split() for row in Path("/proc/self/net/unix").read_text().splitlines()[1:]]
    names = [Path(row[7]) for row in unix if len(row) > 7 and f"socket:[{row[6]}]" in sockets]
    assert not [name for name in names if name.exists()]
