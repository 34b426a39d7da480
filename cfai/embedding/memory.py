"""What equal texts share: the first asks, and the others wait for its answer."""

import asyncio
from array import array
from collections.abc import Sequence
from hashlib import blake2b

from cfai.embedding.pieces import Piece
from cfai.errors import CfaiError
from cfai.tasks import Embeddings

_Known = asyncio.Future["array[float] | CfaiError"]


class Memory:
    """The vectors of a job by their texts, of which it keeps a hash of 16 bytes."""

    def __init__(self) -> None:
        self._known: dict[bytes, _Known] = {}

    def claim(self, texts: Sequence[str]) -> tuple[dict[str, _Known], list[_Known]]:
        """Which texts nobody asked for yet, and where the vector of each text will be."""
        new: dict[str, _Known] = {}
        where: list[_Known] = []
        for text in texts:
            key = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
            if key not in self._known:
                new[text] = self._known[key] = asyncio.get_running_loop().create_future()
            where.append(self._known[key])
        return new, where

    @staticmethod
    def keep(new: Sequence[_Known], pieces: Sequence[Piece]) -> None:
        """Hand on what became of texts that were claimed."""
        for piece in pieces:
            for place in range(piece.first, piece.last):
                found = piece.outcome
                known = found[place - piece.first] if isinstance(found, Embeddings) else found
                new[place].set_result(known)


async def gathered(where: Sequence[_Known]) -> list[Piece]:
    """The vectors of texts that were all claimed, as pieces of what stands next to each other."""
    found = [await known for known in where]
    pieces: list[Piece] = []
    first = 0
    for place in range(1, len(found) + 1):
        failed = isinstance(found[first], CfaiError)
        if place < len(found) and not failed and not isinstance(found[place], CfaiError):
            continue
        pieces.append(Piece(first, place, _outcome(found[first:place])))
        first = place
    return pieces


def _outcome(found: "list[array[float] | CfaiError]") -> Embeddings | CfaiError:
    buffer: array[float] = array("f")
    for vector in found:
        if isinstance(vector, CfaiError):
            return vector
        buffer.extend(vector)
    return Embeddings((len(found), len(buffer) // len(found)), buffer)
