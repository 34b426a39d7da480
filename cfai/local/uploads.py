"""A fine-tune's files, taken from a form as they come in and written to disk piece by piece."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from sqlite3 import Connection
from typing import Any
from uuid import uuid4

from aiohttp import BodyPartReader, web
from attrs import define, frozen

from cfai.local import adapters, faults
from cfai.local.faults import against_rule
from cfai.local.finetunes import Finetunes, now, open_for
from cfai.local.forms import content, fields
from cfai.local.places import Visit

_PIECE = 1 << 20
_LONGEST_NAME = 1000
_FORM = 64 << 10
"""In bytes: what a form may have around its file."""


@define
class _Taken:
    """What a form held."""

    file_name: str | None = None
    size: int | None = None
    """In bytes; `None` where there was no file."""


@frozen
class Uploads:
    """Takes files. What was not taken whole, or is refused, is not kept."""

    finetunes: Finetunes

    async def upload(self, visit: Visit) -> dict[str, Any]:
        """`POST finetunes/{id or name}/finetune-assets`: `file_name` and `file`, in any order.

        Raises:
            Fault: There is no such fine-tune, it has such a file, or the file is no good.
        """
        _announced(visit.request)
        await self.finetunes.find(visit.account, visit.named)
        asset = str(uuid4())
        async with _scratch(self.finetunes.store.part(asset)) as part:
            taken = await self._taken(visit, part)
            if taken.file_name is None or taken.size is None:
                raise against_rule("the form must have the fields file_name and file")
            await asyncio.to_thread(adapters.check, taken.file_name, part)
            return await self._keep(visit, part, asset=asset, taken=(taken.file_name, taken.size))

    async def _taken(self, visit: Visit, part: Path) -> _Taken:
        taken = _Taken()
        async for field in fields(visit.request):
            if field.name == "file_name" and taken.file_name is None:
                taken.file_name = _name(await content(field, _LONGEST_NAME))
                # Told before the file comes in, which may take long.
                await self.finetunes.find(visit.account, visit.named, taken.file_name)
            elif field.name == "file" and taken.size is None:
                taken.size = await _written(field, part)
            else:
                raise against_rule(f"the form has no field {str(field.name)[:60]!r}, or only one")
        return taken

    async def _keep(
        self, visit: Visit, part: Path, *, asset: str, taken: tuple[str, int]
    ) -> dict[str, Any]:
        """Give the file its place and its row: both, or neither."""
        at, (file_name, size), target = now(), taken, self.finetunes.store.files / asset

        def work(db: Connection) -> str:
            # Another upload of the same file may have been quicker.
            finetune = open_for(db, visit.account, visit.named, file_name)
            db.execute(
                "INSERT INTO asset VALUES (?, ?, ?, ?, ?)", (asset, finetune, file_name, size, at)
            )
            db.execute("UPDATE finetune SET modified_at = ? WHERE id = ?", (at, finetune))
            part.replace(target)
            return finetune

        finetune = await self.finetunes.store.ask(work)
        return {
            "id": asset,
            "finetune_id": finetune,
            "file_name": file_name,
            "bucket_name": "cfai-local",
            "created_at": at,
            "modified_at": at,
        }


def _announced(request: web.Request) -> None:
    """Refuse what says beforehand that it is too long."""
    if (request.content_length or 0) > adapters.LARGEST + _FORM:
        raise faults.too_large(adapters.LARGEST)


def _name(said: bytes | None) -> str:
    name = (said or b"").decode(errors="replace").strip()
    adapters.check_name(name)
    return name


async def _written(field: BodyPartReader, part: Path) -> int:
    """Write a field into a file, and give its size in bytes."""
    size = 0
    # A buffered file, since its lock keeps a close from crossing a write that was left alone.
    with await asyncio.to_thread(part.open, "wb") as out:
        while piece := await field.read_chunk(_PIECE):
            size += len(piece)
            if size > adapters.LARGEST:
                raise faults.too_large(adapters.LARGEST)
            await asyncio.to_thread(out.write, piece)
    return size


@asynccontextmanager
async def _scratch(part: Path) -> AsyncIterator[Path]:
    """Give the path of a file that is gone afterwards, unless it was moved away."""
    try:
        yield part
    finally:
        # Quick, and nothing that a second cancellation could break off.
        part.unlink(missing_ok=True)  # noqa: ASYNC240
