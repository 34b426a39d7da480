"""The files of the package that a warm call enters: `python -m tests.bench.files_entered`.

A reader who follows a call has to open these files. The server runs in its own process, so only the
client's files are counted.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import cfai
from cfai import Prompt, WorkersAI

from .contender import EMBEDDER, MODEL, QUESTION, SENTENCES
from .loopback import loopback

PACKAGE = Path(cfai.__file__).parent

RUN = 15
TOKEN = 7
EMBEDDED_TEXT = 23
"""The maximum number of files."""


@contextmanager
def files_entered() -> Iterator[set[str]]:
    """The files of the package in which a function is called, by their paths below `cfai`."""
    files: set[str] = set()

    def profile(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            files.add(frame.f_code.co_filename)

    entered: set[str] = set()
    sys.setprofile(profile)
    try:
        yield entered
    finally:
        sys.setprofile(None)
        paths = [Path(file) for file in files]
        ours = [path for path in paths if path.is_relative_to(PACKAGE)]
        entered |= {path.relative_to(PACKAGE).as_posix() for path in ours}


async def count_run(ai: WorkersAI) -> set[str]:
    """A run whose client, connection and classes are warm."""
    await ai.run(MODEL, Prompt(QUESTION))
    with files_entered() as files:
        await ai.run(MODEL, Prompt(QUESTION))
    return files


async def count_token(ai: WorkersAI) -> set[str]:
    """A token in the middle of a stream, from its bytes to its reader."""
    async with ai.stream(MODEL, Prompt(QUESTION)) as tokens:
        await anext(tokens)
        with files_entered() as files:
            for _ in range(100):
                await anext(tokens)
    return files


async def count_embedded_text(ai: WorkersAI) -> set[str]:
    """A job of one request's worth of texts, from its first text to its last vector."""
    async for _ in ai.embed_many(EMBEDDER, SENTENCES):
        pass
    with files_entered() as files:
        async for _ in ai.embed_many(EMBEDDER, SENTENCES):
            pass
    return files


COUNTS: Mapping[str, tuple[str, int, Callable[[WorkersAI], Any]]] = {
    "a warm run": ("run", RUN, count_run),
    "a streamed token": ("paced", TOKEN, count_token),
    "an embedded text": ("embed", EMBEDDED_TEXT, count_embedded_text),
}


async def count_all() -> dict[str, set[str]]:
    """The files that each kind of call enters."""
    results = {}
    with loopback(None) as origins:
        for name, (scenario, _, count) in COUNTS.items():
            url = f"{origins[scenario]}/client/v4"
            async with WorkersAI(account_id="a", api_token="t", base_url=url) as ai:
                results[name] = await count(ai)
    return results


def main() -> None:
    """Print the three lists, and fail if one is too long."""
    results = asyncio.run(count_all())
    for name, files in results.items():
        print(f"{name}: {len(files)} files (at most {COUNTS[name][1]})")
        print("".join(f"  {file}\n" for file in sorted(files)))
    sys.exit(any(len(files) > COUNTS[name][1] for name, files in results.items()))


if __name__ == "__main__":
    main()
