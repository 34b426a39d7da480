"""Where the vector of each text is, in memory: 28 bytes a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from attrs import frozen

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Place(NamedTuple):
    """Where a text's row is."""

    part: int
    row: int
    check: int
    """The checksum of its vector."""


@frozen(eq=False)
class Entries:
    """Keys, with the part and the row (32 bits each) and the checksum of each."""

    keys: NDArray[np.bytes_]
    places: NDArray[np.int64]
    checks: NDArray[np.uint32]

    @classmethod
    def of(
        cls, part: int, keys: NDArray[np.bytes_], checks: NDArray[np.uint32], first: int = 0
    ) -> Entries:
        """Of rows of one part that stand next to each other, from *first*."""
        import numpy as np

        rows = np.arange(first, first + len(keys), dtype=np.int64)
        return cls(keys, rows + (part << 32), checks)

    def __len__(self) -> int:
        return len(self.keys)


def _sorted(runs: Sequence[Entries]) -> Entries:
    """All in one, sorted; equal keys stay in the order of *runs*."""
    import numpy as np

    keys = np.concatenate([run.keys for run in runs])
    order = np.argsort(keys, kind="stable")
    return Entries(
        keys[order],
        np.concatenate([run.places for run in runs])[order],
        np.concatenate([run.checks for run in runs])[order],
    )


@frozen(eq=False)
class Index:
    """Sorted entries, the newest last. What is added makes another index."""

    _runs: tuple[Entries, ...] = ()

    @classmethod
    def of(cls, ranked: Sequence[Entries]) -> Index:
        """Of entries of which the first of equal keys counts."""
        return cls((_sorted(ranked),)) if ranked else cls()

    def with_(self, entries: Entries) -> Index:
        """And *entries*, which count instead of older ones of equal keys."""
        runs = [*self._runs, _sorted([entries])]
        # Each is more than twice as long as the next, so that there are few, and few are merged.
        while len(runs) > 1 and len(runs[-2]) <= 2 * len(runs[-1]):
            newer, older = runs.pop(), runs.pop()
            runs.append(_sorted([newer, older]))
        return Index(tuple(runs))

    def find(self, keys: Sequence[bytes]) -> dict[bytes, Place]:
        """Where each key is that is there."""
        import numpy as np

        wanted = np.frombuffer(b"".join(keys), "S16")
        found: dict[bytes, Place] = {}
        for run in self._runs:
            if not len(run):
                continue
            at = np.searchsorted(run.keys, wanted)
            at[at == len(run)] = 0
            for one in map(int, np.flatnonzero(run.keys[at] == wanted)):
                place = int(run.places[at[one]])
                check = int(run.checks[at[one]])
                found[keys[one]] = Place(place >> 32, place & 0xFFFFFFFF, check)
        return found
