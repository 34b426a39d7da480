"""What equal texts share: the first asks, and the others wait for its answer."""

import asyncio
from array import array
from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeAlias

from cfai.embedding.pieces import Embed, Piece, joined, one_by_one
from cfai.errors import CfaiError

_Known: TypeAlias = "asyncio.Future[array[float] | CfaiError]"


class Memory:
    """The vectors of a job by their texts, of which it keeps a hash of 16 bytes."""

    def __init__(self) -> None:
        self._known: dict[bytes, _Known] = {}

    async def embed(self, embed: Embed, texts: Sequence[str], found: list[Piece]) -> None:
        """Embed what nobody asked for yet, and put what becomes of all *texts* into *found*."""
        new, where = self._claim(texts)
        asked: list[Piece] = []
        try:
            if new:
                await embed(list(new), asked)
        finally:
            waiting = list(new.values())
            for place, one in one_by_one(asked):
                waiting[place].set_result(one)
            # Where the job fails, some are never there.
            there = [known.result() if known.done() else None for known in where]
            found += joined(there, asked)
        # Others wait for the same futures: who is cancelled here must not cancel those.
        found[:] = joined([await asyncio.shield(known) for known in where], asked)

    def _claim(self, texts: Sequence[str]) -> tuple[dict[str, _Known], list[_Known]]:
        """Which texts nobody asked for yet, and where what becomes of each text will be."""
        new: dict[str, _Known] = {}
        where: list[_Known] = []
        for text in texts:
            key = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
            if key not in self._known:
                new[text] = self._known[key] = asyncio.get_running_loop().create_future()
            where.append(self._known[key])
        return new, where
