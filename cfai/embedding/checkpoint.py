"""What a job has finished, in a folder: another job goes on from there, and pays for nothing twice.

What was answered is on the disk before it is given to anybody. Texts are known by a hash; they
aren't kept.
"""

import asyncio
from array import array
from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, Self, TypeGuard

from cfai.embedding import tables
from cfai.embedding.folder import Folder
from cfai.embedding.kept import Row
from cfai.embedding.pieces import Embed, Piece, joined, one_by_one
from cfai.embedding.rows import numpy_there
from cfai.embedding.threads import to_its_end
from cfai.errors import CfaiError, RequestTooLarge, StatusError

_ABOUT_THE_TEXT: Final = frozenset({5006})
"""The service's codes of failures that the same text would meet again."""


def key_of(text: str) -> bytes:
    """What a text is known by: 16 bytes."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _lasting(error: CfaiError) -> TypeGuard[StatusError]:
    """Whether it is worth keeping.

    What may pass is asked for again, and what was refused here is found again for nothing.
    """
    if not isinstance(error, StatusError):
        return False
    return isinstance(error, RequestTooLarge) or error.code in _ABOUT_THE_TEXT


class Checkpoint:
    """A folder of what is finished, open for one job.

    Args:
        facts: What the vectors are made by: the model, its options, the endpoint.
        retry_failed: Take texts that failed as never settled.
    """

    def __init__(self, path: Path, facts: Mapping[str, Any], *, retry_failed: bool) -> None:
        self._folder = Folder(path, facts, retry_failed=retry_failed)
        self._under_way: dict[bytes, asyncio.Future[None]] = {}
        self._waiting: list[Row] = []
        """What is settled, and not in a file yet."""
        self._writing: list[Row] | None = None
        """What a file is being made of, until `_written`."""
        self._written: asyncio.Future[None] | None = None
        self._broken: Exception | None = None

    @classmethod
    async def open(cls, path: Path, facts: Mapping[str, Any], *, retry_failed: bool) -> Self:
        """Open the folder; whoever does closes it.

        Raises:
            MissingExtra: pyarrow or NumPy is not installed.
            ConfigError: The folder has vectors that were made by something else, is held by another
                process, or can't be used.
        """
        tables.arrow_there("checkpoint=")
        numpy_there("checkpoint=")
        checkpoint = cls(path, facts, retry_failed=retry_failed)
        try:
            await to_its_end(checkpoint._folder.open)
        except BaseException:
            checkpoint._folder.close()
            raise
        return checkpoint

    async def aclose(self) -> None:
        """Write what is settled and not written yet, and let others have the folder."""
        try:
            if self._broken is None:
                await self._write()
        finally:
            self._folder.close()

    async def embed(self, embed: Embed, texts: Sequence[str], found: list[Piece]) -> None:
        """Embed what isn't in the folder, and put what becomes of all *texts* into *found*.

        A text that another chunk asks for is waited for.
        """
        keys = [key_of(text) for text in texts]
        settled: dict[bytes, array[float] | CfaiError] = {}
        asked: list[Piece] = []
        try:
            while missing := {
                key: text for key, text in zip(keys, texts, strict=True) if key not in settled
            }:
                mine = {key: text for key, text in missing.items() if key not in self._under_way}
                if mine:
                    await self._settle(embed, mine, settled, asked)
                else:
                    await asyncio.wait([self._under_way[key] for key in missing])
        finally:
            # Where all were asked for at once, the answer is as the service gave it.
            alone = len(texts) == len(set(keys)) == sum(one.last - one.first for one in asked)
            found += asked if alone else joined([settled.get(key) for key in keys], asked)

    async def _settle(
        self,
        embed: Embed,
        texts: Mapping[bytes, str],
        settled: dict[bytes, "array[float] | CfaiError"],
        asked: list[Piece],
    ) -> None:
        """Look *texts* up, and embed those that aren't there; meanwhile, others wait for them."""
        done = asyncio.get_running_loop().create_future()
        self._under_way.update(dict.fromkeys(texts, done))
        try:
            places = self._folder.find(list(texts))
            if places:
                settled.update(await to_its_end(partial(self._folder.read, places)))
            new = {key: text for key, text in texts.items() if key not in places}
            if new:
                await self._ask(embed, new, settled, asked)
        finally:
            for key in texts:
                del self._under_way[key]
            done.set_result(None)

    async def _ask(
        self,
        embed: Embed,
        texts: Mapping[bytes, str],
        settled: dict[bytes, "array[float] | CfaiError"],
        asked: list[Piece],
    ) -> None:
        """Embed *texts*, and keep what becomes of them."""
        keys, asked[:] = list(texts), []
        try:
            await embed(list(texts.values()), asked)
        except BaseException as exc:
            self._take(keys, settled, asked)
            try:
                await self._write()
            except Exception as lost:  # What ended the job is told first.
                exc.add_note(f"what was finished last is not in the checkpoint: {lost}")
            raise
        self._take(keys, settled, asked)
        await self._write()

    def _take(
        self,
        keys: Sequence[bytes],
        settled: dict[bytes, "array[float] | CfaiError"],
        asked: Sequence[Piece],
    ) -> None:
        for place, one in one_by_one(asked):
            settled[keys[place]] = one
            if isinstance(one, array) or _lasting(one):
                self._waiting.append((keys[place], one))

    async def _write(self) -> None:
        """Wait until what is settled is in a file. What is settled meanwhile is in the next.

        Raises:
            OSError: It can't be written, or what came before couldn't.
            ConfigError: The vectors in the folder have another length.
        """
        mine = self._waiting
        while mine and (mine is self._waiting or mine is self._writing):
            if self._broken is not None:
                raise self._broken
            if self._written is None:
                await self._write_file()
            else:
                await asyncio.wait([self._written])
        if self._broken is not None:
            raise self._broken

    async def _write_file(self) -> None:
        rows, self._waiting = self._waiting, []
        self._writing, self._written = rows, asyncio.get_running_loop().create_future()

        def keep() -> None:
            try:
                self._folder.keep(rows)
            except Exception as exc:  # Whoever waits for these rows hears of it.
                self._broken = exc

        try:
            await to_its_end(keep)
        finally:
            self._writing = None
            self._written.set_result(None)
            self._written = None
