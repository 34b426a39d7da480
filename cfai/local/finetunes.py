"""Fine-tunes (LoRA adapters): created, listed, uploaded, and checked for runs. None is applied.

Source of the limits: Cloudflare docs, Workers AI, "Using LoRA adapters".
"""

import asyncio
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
from aiohttp import BodyPartReader
from attrs import frozen

from cfai.local import errors
from cfai.local.errors import invalid_request
from cfai.local.models import find_model, find_retirement
from cfai.local.requests import ApiRequest, JsonBody, missing_fields, read_chunks, read_form_field
from cfai.local.store import Store
from cfai.tasks.task import shorten

_MAX_FINETUNES = 30
"""The most fine-tunes of an account."""

_COLUMNS = ("id", "created_at", "model", "modified_at", "name", "public", "description")
_PAGE_SIZE = 50

_CONFIG = "adapter_config.json"
_WEIGHTS = "adapter_model.safetensors"

_MAX_FILE_SIZE = 500 << 20
"""In bytes. The service says "500 MB", without saying which megabytes."""

_FORM_OVERHEAD = 64 << 10
"""In bytes: the most that a form may add to its file."""

_MAX_NAME_SIZE = 1000
_CHUNK_SIZE = 1 << 20

_RANKS = range(1, 33)
_MODEL_TYPES = ("mistral", "gemma", "llama")

# The format's own reader accepts 100 MB; an adapter of ten thousand tensors has 2 MB.
_MAX_HEADER_SIZE = 4 << 20
_MAX_CONFIG_SIZE = 1 << 20


@frozen
class FinetuneRegistry:
    """The fine-tunes of every account."""

    store: Store

    async def list_own(self, request: ApiRequest) -> list[dict[str, Any]]:
        """`GET finetunes`: those of the account, oldest first, without the field `public`.

        The API documents a single object here, but its own clients read a list.
        """
        query = "SELECT * FROM finetune WHERE account = ? ORDER BY number"
        rows = await self.store.transact(
            lambda db: [_finetune_row(row) for row in db.execute(query, (request.account,))]
        )
        return [{name: row[name] for name in row if name != "public"} for row in rows]

    async def list_public(self, request: ApiRequest) -> list[dict[str, Any]]:
        """`GET finetunes/public?limit=&offset=&orderBy=`: those of every account.

        Raises:
            ApiError: A number is invalid, or there is no such column.
        """
        limit = request.read_number("limit", _PAGE_SIZE, minimum=1)
        offset = request.read_number("offset", 0)
        order = request.http.query.get("orderBy", "created_at")
        if order not in _COLUMNS:
            names = ", ".join(_COLUMNS)
            raise invalid_request(f"orderBy must be one of {names}, got {order[:60]!r}")
        # *order* is one of our column names; rows with equal values stay in creation order.
        query = f"SELECT * FROM finetune WHERE public ORDER BY {order}, number LIMIT ? OFFSET ?"  # noqa: S608
        return await self.store.transact(
            lambda db: [_finetune_row(row) for row in db.execute(query, (limit, offset))]
        )

    async def create(self, request: ApiRequest) -> dict[str, Any]:
        """`POST finetunes`.

        Raises:
            ApiError: A field breaks its rule, the model is unknown or retired, the name is
            taken, or the account has too many.
        """
        finetune, account = _parse_finetune(await request.read_json()), request.account

        def insert(db: sqlite3.Connection) -> None:
            count = db.execute("SELECT count(*) FROM finetune WHERE account = ?", (account,))
            if count.fetchone()[0] >= _MAX_FINETUNES:
                raise invalid_request(f"an account can have at most {_MAX_FINETUNES} finetunes")
            if _select_own(db, account, finetune["name"]):
                raise invalid_request(f"a finetune {finetune['name'][:60]!r} already exists")
            db.execute(
                "INSERT INTO finetune (id, account, name, model, description, public, created_at,"
                " modified_at) VALUES (:id, :account, :name, :model, :description, :public,"
                " :created_at, :modified_at)",
                {"description": None, **finetune, "account": account},
            )

        await self.store.transact(insert)
        return finetune

    async def check_lora(self, account: str, name: str) -> None:
        """Check that *account* can run a fine-tune, named by its id or name, with both files.

        Raises:
            ApiError: 3037, it is unknown; or 3039, a file is missing.
        """
        # Their own before public ones, an id before a name, then the oldest.
        query = (
            "SELECT (SELECT count(*) FROM asset WHERE asset.finetune = finetune.id) AS files"
            " FROM finetune WHERE (account = ? OR public) AND (id = ? OR name = ?)"
            " ORDER BY account = ? DESC, id = ? DESC, number"
        )
        row = await self.store.execute(query, account, name, name, account, name)
        if row is None:
            raise errors.unknown_lora(name)
        if row["files"] < len((_CONFIG, _WEIGHTS)):
            raise errors.incomplete_lora(name)

    async def upload(self, request: ApiRequest) -> dict[str, Any]:
        """`POST finetunes/{id or name}/finetune-assets`: `file_name` and `file`, in any order.

        The file is written to disk as it arrives; a truncated or rejected one is deleted.

        Raises:
            ApiError: The fine-tune is unknown, already has such a file, or the file is invalid.
        """
        if (request.http.content_length or 0) > _MAX_FILE_SIZE + _FORM_OVERHEAD:
            raise errors.request_too_large(_MAX_FILE_SIZE)
        await self._check_accepts(request)
        asset_id = str(uuid4())
        path = self.store.partial_path(asset_id)
        try:
            file_name, size = await self._receive_form(request, path)
            check = _check_config if file_name == _CONFIG else _check_weights
            await asyncio.to_thread(check, path)
            return await self._save_file(request, path, asset_id, file_name, size)
        finally:
            # Quick, and not awaited: a second cancellation must not interrupt it.
            path.unlink(missing_ok=True)

    async def _receive_form(self, request: ApiRequest, path: Path) -> tuple[str, int]:
        """Return the name of the file and its size in bytes, and write the file."""
        file_name: str | None = None
        size: int | None = None
        async for part in request.form_fields():
            if part.name == "file_name" and file_name is None:
                content = await read_form_field(part, _MAX_NAME_SIZE) or b""
                file_name = content.decode(errors="replace").strip()
                if file_name not in (_CONFIG, _WEIGHTS):
                    rule = f"must be {_CONFIG} or {_WEIGHTS}"
                    raise invalid_request(f"file_name {rule}, got {file_name[:100]!r}")
                # Rejected before the file arrives, which may take long.
                await self._check_accepts(request, file_name)
            elif part.name == "file" and size is None:
                size = await _write_file(part, path)
            else:
                name = str(part.name)[:60]
                raise invalid_request(f"the form has an unknown or repeated field {name!r}")
        if file_name is None or size is None:
            raise invalid_request("the form must have the fields file_name and file")
        return file_name, size

    async def _check_accepts(self, request: ApiRequest, file_name: str = "") -> None:
        await self.store.transact(lambda db: _find_upload_target(db, request, file_name))

    async def _save_file(
        self, request: ApiRequest, path: Path, asset_id: str, file_name: str, size: int
    ) -> dict[str, Any]:
        """Move the file into place and insert its row: both, or neither."""
        now = _now()

        def insert(db: sqlite3.Connection) -> str:
            # Another upload of the same file may have completed meanwhile.
            finetune_id = _find_upload_target(db, request, file_name)
            values = (asset_id, finetune_id, file_name, size, now)
            db.execute("INSERT INTO asset VALUES (?, ?, ?, ?, ?)", values)
            db.execute("UPDATE finetune SET modified_at = ? WHERE id = ?", (now, finetune_id))
            path.replace(self.store.files / asset_id)
            return finetune_id

        finetune_id = await self.store.transact(insert)
        return {
            "id": asset_id,
            "finetune_id": finetune_id,
            "file_name": file_name,
            "bucket_name": "cfai-local",
            "created_at": now,
            "modified_at": now,
        }


def _now() -> str:
    """Return the time as the API writes it: UTC, with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _parse_finetune(body: JsonBody) -> dict[str, Any]:
    """Return the row of a new fine-tune."""
    required = ("model", "name")
    absent = [name for name in required if body.get(name) is None]
    if absent:
        raise missing_fields(*absent)
    kinds = {"model": str, "name": str, "description": str, "public": bool}
    unknown = next((name for name in body if name not in kinds), None)
    if unknown is not None:
        raise invalid_request(f"unknown field {shorten(unknown)}")
    for name, kind in kinds.items():
        value = body.get(name)
        if value is not None and (type(value) is not kind or (value == "" and name in required)):
            expected = "true or false" if kind is bool else "text"
            raise invalid_request(f"{name} must be {expected}, got {shorten(value)}")
    model = find_model(body["model"])
    if model is None or model.task != "Text Generation":
        raise errors.unknown_model(body["model"])
    if (day := find_retirement(model.name)) is not None:
        raise errors.retired_model(day)
    now = _now()
    row = {
        "id": str(uuid4()),
        "created_at": now,
        "model": body["model"],
        "modified_at": now,
        "name": body["name"],
        "public": body.get("public") is True,
    }
    description = body.get("description")
    return row if description is None else {**row, "description": description}


async def _write_file(part: BodyPartReader, path: Path) -> int:
    """Write a form field into a file and return its size in bytes."""
    size = 0
    # A buffered file: its lock keeps `close` from overlapping a write that outlives this task.
    with await asyncio.to_thread(path.open, "wb") as file:
        async for chunk in read_chunks(part, _CHUNK_SIZE):
            size += len(chunk)
            if size > _MAX_FILE_SIZE:
                raise errors.request_too_large(_MAX_FILE_SIZE)
            await asyncio.to_thread(file.write, chunk)
    return size


# In the database thread


def _find_upload_target(db: sqlite3.Connection, request: ApiRequest, file_name: str) -> str:
    """Return the id of a fine-tune that does not have the file *file_name* yet.

    Raises:
        ApiError: There is no such fine-tune, or it has that file.
    """
    row = _select_own(db, request.account, request.name)
    if row is None:
        raise errors.unknown_finetune(request.name)
    query = "SELECT 1 FROM asset WHERE finetune = ? AND file_name = ?"
    if db.execute(query, (row["id"], file_name)).fetchone():
        raise invalid_request(f"{file_name} already exists, and files cannot be replaced")
    return str(row["id"])


def _select_own(db: sqlite3.Connection, account: str, name: str) -> sqlite3.Row | None:
    """Find a fine-tune by its id, otherwise by its name."""
    query = "SELECT * FROM finetune WHERE account = ? AND (id = ? OR name = ?) ORDER BY id = ? DESC"
    row: sqlite3.Row | None = db.execute(query, (account, name, name, name)).fetchone()
    return row


def _finetune_row(row: sqlite3.Row) -> dict[str, Any]:
    """Return a fine-tune as the service sends it: without an absent description."""
    finetune = {name: row[name] for name in _COLUMNS if row[name] is not None}
    return {**finetune, "public": bool(row["public"])}


# Checks of an adapter's files. They block, and raise an `ApiError` for what the service rejects.


def _check_config(path: Path) -> None:
    size = path.stat().st_size
    if size > _MAX_CONFIG_SIZE:
        raise invalid_request(f"{_CONFIG} must have at most {_MAX_CONFIG_SIZE} bytes, got {size}")
    config = _parse_object(path.read_bytes(), f"{_CONFIG} must be a JSON object")
    rank, model_type = config.get("r"), config.get("model_type")
    if type(rank) is not int or rank not in _RANKS:
        raise invalid_request(f"{_CONFIG}: r must be from 1 to {_RANKS[-1]}, got {shorten(rank)}")
    if model_type not in _MODEL_TYPES:
        names = ", ".join(_MODEL_TYPES)
        raise invalid_request(
            f"{_CONFIG}: model_type must be one of {names}, got {shorten(model_type)}"
        )


def _check_weights(path: Path) -> None:
    """Check the header of a safetensors file: its length, a JSON object, and the tensors' ends."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(size - 8, _MAX_HEADER_SIZE):
            raise invalid_request(f"{_WEIGHTS} must be a safetensors file with a valid header")
        header = _parse_object(file.read(length), f"{_WEIGHTS}: the header must be a JSON object")
    spans = sorted(
        _tensor_span(name, entry) for name, entry in header.items() if name != "__metadata__"
    )
    end = 0
    for start, stop in spans:
        if start != end:
            raise invalid_request(f"{_WEIGHTS}: the tensors must be contiguous")
        end = stop
    if not spans or 8 + length + end != size:
        raise invalid_request(f"{_WEIGHTS} must hold all of its tensors, got {size} bytes")


def _tensor_span(name: str, entry: Any) -> tuple[int, int]:
    match entry:
        case {"dtype": str(), "shape": [*shape], "data_offsets": [start, end]} if (
            all(type(number) is int and number >= 0 for number in (*shape, start, end))
            and start <= end
        ):
            return start, end
    raise invalid_request(f"{_WEIGHTS}: the tensor {name[:60]!r} has no valid data_offsets")


def _parse_object(raw: bytes, message: str) -> dict[str, Any]:
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError as exc:
        raise invalid_request(message) from exc
    if not isinstance(document, dict):
        raise invalid_request(message)
    return document
