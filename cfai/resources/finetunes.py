"""Fine-tunes: LoRA adapters, listed, created and uploaded (`WorkersAI.finetunes`)."""

import asyncio
import json
import os
import re
from collections.abc import Mapping
from datetime import datetime
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, Final

from attrs import evolve, field, frozen

from cfai._session.client import Account
from cfai._session.pagination import Pager
from cfai._types.excerpts import format_path, format_value
from cfai._types.json import check_depth, raise_invalid_constant, read_as
from cfai._validators import check_segment
from cfai._wire.multipart import File, FileSource, Progress, build_form, describe_os_error
from cfai._wire.pagination import OffsetCursor, SinglePage, read_page
from cfai._wire.requests import (
    build_form_request,
    build_json_request,
)
from cfai._wire.responses import unwrap_result
from cfai.errors import DecodeError, InputError
from cfai.settings import Options

_OWN: Final = "finetunes"
_PUBLIC: Final = "finetunes/public"

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")


@frozen
class Finetune:
    """A fine-tune: a LoRA adapter for one model.

    Source: Workers AI API, "List Finetunes", "Create a new Finetune", "List Public Finetunes".
    """

    id: str
    """A UUID. `lora=` takes the id or the name."""

    model: str
    """The model it was trained for."""

    name: str

    description: str | None = field(default=None, kw_only=True)

    public: bool | None = field(default=None, kw_only=True)
    """Whether every account can use it. `None` in the list of the account's own fine-tunes."""

    created_at: datetime | None = field(default=None, kw_only=True)
    """With a time zone. The service sometimes omits both dates."""

    modified_at: datetime | None = field(default=None, kw_only=True)

    raw: Mapping[str, Any] | None = field(default=None, kw_only=True, repr=False, eq=False)
    """The row as decoded JSON."""


@frozen(kw_only=True)
class FinetuneAsset:
    """An uploaded file. The service may send no details; then every field is `None`.

    Source: Workers AI API, "Upload a Finetune Asset", and Cloudflare's OpenAPI document of 2024-08.
    """

    id: str | None = None
    finetune_id: str | None = None
    file_name: str | None = None
    bucket_name: str | None = None
    created_at: datetime | None = None
    modified_at: datetime | None = None
    raw: Mapping[str, Any] | None = field(default=None, repr=False, eq=False)


class Finetunes:
    """The fine-tunes of an account, and the public ones.

    ```python
    finetune = await ai.finetunes.create("@cf/mistral/mistral-7b-instruct-v0.2-lora", "pirate")
    await ai.finetunes.upload_adapter(finetune, "out/adapter")
    answer = await ai.run(finetune.model, Prompt("Hello", raw=True, lora=finetune.name))
    ```
    """

    def __init__(self, account: Account) -> None:
        self._account = account

    def list(self, *, options: Options | None = None) -> Pager[Finetune]:
        """List the fine-tunes of the account.

        Source: Workers AI API, `GET /accounts/{account_id}/ai/finetunes`. It is documented as one
        object, as a list and as a list in a list; all three are accepted.
        """
        return self._account.pager(
            _OWN,
            lambda document: read_page(document, _read_finetune),
            SinglePage(),
            options=options,
        )

    def public(
        self,
        *,
        limit: int | None = None,
        offset: int | None = None,
        order_by: str | None = None,
        options: Options | None = None,
    ) -> Pager[Finetune]:
        """List the fine-tunes that every account can use.

        Args:
            limit: Rows per page, 1 or more. If omitted, the service chooses. A page with fewer rows
                ends the list, so a limit above the service's own page size would cut the list.
            offset: Rows to skip, 0 or more.
            order_by: The column to sort by.
            options: Options for this call only.

        Source: Workers AI API, `GET /accounts/{account_id}/ai/finetunes/public`.
        """
        start = OffsetCursor(limit=limit, offset=offset, order_by=order_by)
        return self._account.pager(
            _PUBLIC,
            lambda document: read_page(document, _read_finetune_with_uuid),
            start,
            options=options,
        )

    async def create(
        self,
        model: str,
        name: str,
        *,
        description: str | None = None,
        public: bool | None = None,
        options: Options | None = None,
    ) -> Finetune:
        """Create a fine-tune. It has no files yet; upload them next.

        To avoid creating it twice, only a 429 and a failed connect are retried.

        Args:
            model: The model the adapter was trained for. It must support fine-tunes.
            name: The name that `lora=` takes. It must be new in the account.
            description: A description for people.
            public: Whether every account may use it.
            options: Options for this call only.

        Raises:
            InputError: The model or the name is empty. Nothing was sent.
            StatusError: An error response.

        Source: Workers AI API, `POST /accounts/{account_id}/ai/finetunes`.
        """
        settings = self._account.for_call(options)
        text: Any
        for field_name, text in (("model", model), ("name", name)):
            if not isinstance(text, str) or not text:
                raise InputError(
                    f"{field_name} must be a non-empty string, got {format_value(text)}"
                )
        if not isinstance(description, str | None):
            raise InputError(f"description must be a string, got {format_value(description)}")
        if not isinstance(public, bool | None):
            raise InputError(f"public must be True or False, got {format_value(public)}")
        fields = {"model": model, "name": name, "description": description, "public": public}
        fields = {key: value for key, value in fields.items() if value is not None}
        request = build_json_request(settings, options, _OWN, fields)
        return await self._account.send(
            request,
            settings,
            lambda document: _read_finetune_with_uuid(unwrap_result(document), "result"),
        )

    async def upload(
        self,
        finetune: Finetune | str,
        file: FileSource,
        *,
        file_name: str | None = None,
        progress: Progress | None = None,
        options: Options | None = None,
    ) -> FinetuneAsset:
        """Upload one file of a fine-tune. It is read from disk while it is sent.

        An uploaded file can't be replaced. So once bytes were sent, the upload is retried only if
        it was rate-limited (429).

        Args:
            finetune: The fine-tune, its id or its name.
            file: A path, bytes, or an open, seekable binary file. One file object can be in one
                upload at a time.
            file_name: The file's name at the service. Required for bytes; otherwise it defaults to
                the file's own name. The service takes `adapter_config.json` and
                `adapter_model.safetensors`.
            progress: Called with the number of bytes sent and the total, both including the form
                around the file. The count restarts if the upload is retried (429). An exception
                raised here ends the upload.
            options: Options for this call only. `Timeouts.response` restarts with each piece sent.

        Raises:
            InputError: The file is empty or can't be read. Nothing was sent.
            UploadInterrupted: The connection was lost; it has the number of bytes sent.
            StatusError: An error response.

        Source: Workers AI API, `POST …/ai/finetunes/{finetune_id}/finetune-assets`.
        """
        opened = await asyncio.to_thread(File.from_source, file, file_name)
        return await self._upload(finetune, opened, progress, options)

    async def upload_adapter(
        self,
        finetune: Finetune | str,
        folder: str | os.PathLike[str],
        *,
        progress: Progress | None = None,
        options: Options | None = None,
    ) -> tuple[FinetuneAsset, FinetuneAsset]:
        """Check the two files of an adapter and upload them: first the weights, then the config.

        Args:
            finetune: The fine-tune, its id or its name.
            folder: A folder with a complete `adapter_model.safetensors` and an
                `adapter_config.json` whose `r` is from 1 to 32 and whose `model_type` is mistral,
                gemma or llama. Whether the weights have that rank is not checked.
            progress: Called with the bytes sent of both files, as in `upload`.
            options: Options for each of the two requests.

        Raises:
            InputError: A file is missing or damaged, or the service does not support such an
                adapter. Nothing was sent.
            UploadInterrupted: The connection was lost. A file that was already uploaded remains.
            StatusError: An error response, for one of the files.

        Source: Cloudflare docs, Workers AI, "Using LoRA adapters".
        """
        weights, config = await asyncio.to_thread(_check_adapter, folder)
        total = weights.size + config.size
        report = _offset_progress(progress, 0, weights.size, total)
        first = await self._upload(finetune, weights, report, options)
        report = _offset_progress(progress, weights.size, config.size, total)
        return first, await self._upload(finetune, config, report, options)

    async def _upload(
        self,
        finetune: Finetune | str,
        file: File,
        progress: Progress | None,
        options: Options | None,
    ) -> FinetuneAsset:
        settings = self._account.for_call(options)
        name = finetune.id if isinstance(finetune, Finetune) else finetune
        path = f"{_OWN}/{check_segment('finetune', name)}/finetune-assets"
        # Name before file, as in Cloudflare's OpenAPI document of 2024-08 and workers-sdk.
        form = build_form({"file_name": file.name}, [("file", file)], progress)
        request = build_form_request(settings, options, path, form, repeatable=False)
        return await self._account.send(request, settings, _read_uploaded_asset)


def _offset_progress(
    progress: Progress | None, before: int, size: int, total: int
) -> Progress | None:
    """A callback for one of two files that reports the bytes of both."""
    if progress is None:
        return None
    return lambda sent, _: progress(before + min(sent, size), total)


# Responses


def _read_finetune(row: Any, where: str) -> Finetune:
    return evolve(read_as(row, Finetune, where), raw=row)


def _read_finetune_with_uuid(row: Any, where: str) -> Finetune:
    """A row whose id is documented as a UUID: in the public list, and after creation."""
    finetune = _read_finetune(row, where)
    if not _UUID.fullmatch(finetune.id):
        raise DecodeError(f"{where}.id must be a UUID, got {format_value(finetune.id)}")
    return finetune


def _read_uploaded_asset(document: Any) -> FinetuneAsset:
    """The file that was uploaded. Some sources document a result, others only `success`."""
    result = document.get("result") if isinstance(document, Mapping) else None
    if not result:
        return FinetuneAsset()
    try:
        return evolve(read_as(result, FinetuneAsset, "result"), raw=result)
    except DecodeError:
        # The file is uploaded and can't be sent again: an unusual result must not be an error.
        return FinetuneAsset(raw=result if isinstance(result, Mapping) else None)


# Checks of an adapter (LoRA) before it is uploaded

# Source: Cloudflare docs, Workers AI, "Using LoRA adapters".
_ADAPTER_FILES: Final = ("adapter_model.safetensors", "adapter_config.json")
_MAX_RANK: Final = 32
_MODEL_TYPES: Final = ("mistral", "gemma", "llama")

_MAX_FILE_BYTES: Final = 500 << 20
"""The service says "500 MB", and not which megabytes."""

# The format's own reader allows 100 MB, which would take many times as much memory. An adapter of
# ten thousand tensors has 2 MB.
_MAX_HEADER_BYTES: Final = 4 << 20

# Source: github.com/huggingface/safetensors, `Dtype`.
_BITS: Final[Mapping[str, int]] = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
}


def _check_adapter(folder: Any) -> tuple[File, ...]:
    """Check the files of an adapter, and return them in the order of the upload. Blocks.

    Raises:
        InputError: A file is missing or damaged, or the service does not take such an adapter.
    """
    try:
        if not isinstance(folder, str | os.PathLike) or not Path(folder).is_dir():
            raise InputError(f"folder must be a folder, got {format_value(folder)}")
        for name in _ADAPTER_FILES:
            if not Path(folder, name).is_file():
                raise InputError(
                    f"{format_path(folder)} must contain {' and '.join(_ADAPTER_FILES)}: no {name}"
                )
        weights, config = (File.from_source(Path(folder, name)) for name in _ADAPTER_FILES)
        _check_config(Path(folder, config.name))
        _check_weights(Path(folder, weights.name), weights.size)
    except OSError as exc:
        raise InputError(
            f"{format_path(folder)[:100]} can't be read: {describe_os_error(exc)}"
        ) from exc
    return weights, config


def _parse_strict_json(data: bytes) -> Any:
    """JSON by its standard: UTF-8 without a mark, only finite numbers, each key once."""
    document = json.loads(
        data.decode(), object_pairs_hook=_unique_pairs, parse_constant=raise_invalid_constant
    )
    check_depth(document)
    return document


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a key occurs twice")
    return fields


def _check_config(path: Path) -> None:
    try:
        config = _parse_strict_json(path.read_bytes())
    except (RecursionError, ValueError) as exc:
        raise InputError(f"{path.name} must be JSON: {exc}") from exc
    if not isinstance(config, dict):
        raise InputError(f"{path.name} must be a JSON object")
    rank, model_type = config.get("r"), config.get("model_type")
    if type(rank) is not int or not 1 <= rank <= _MAX_RANK:
        raise InputError(
            f"{path.name}: r must be between 1 and {_MAX_RANK}, got {format_value(rank)}"
        )
    if model_type not in _MODEL_TYPES:
        allowed = ", ".join(_MODEL_TYPES)
        raise InputError(
            f"{path.name}: model_type must be one of {allowed}, got {format_value(model_type)}"
        )


def _check_weights(path: Path, size: int) -> None:
    """Check the header: its length, a JSON object, and the offsets of the tensors in it."""
    if size > _MAX_FILE_BYTES:
        raise InputError(f"{path.name} must have at most {_MAX_FILE_BYTES} bytes, got {size}")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(size - 8, _MAX_HEADER_BYTES):
            raise InputError(
                f"{path.name} must be a safetensors file: its header is cut or missing"
            )
        try:
            header = _parse_strict_json(file.read(length))
        except (RecursionError, ValueError) as exc:
            raise InputError(f"{path.name} must be a safetensors file: {exc}") from exc
    if not isinstance(header, dict):
        raise InputError(f"{path.name} must be a safetensors file: its header is not a JSON object")
    offsets = sorted(
        _check_tensor(path, name, entry) for name, entry in header.items() if name != "__metadata__"
    )
    if not offsets or 8 + length + offsets[-1][1] != size:
        raise InputError(f"{path.name} must contain all of its tensors: it is cut, or has none")
    if any(end != start for (_, end), (start, _) in pairwise([(0, 0), *offsets])):
        raise InputError(f"{path.name} must have its tensors one directly after the other")


def _check_tensor(path: Path, name: str, entry: Any) -> tuple[int, int]:
    """The offsets of a tensor, whose difference its type and its shape decide."""
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [start, end]} if all(
            type(number) is int and number >= 0 for number in (*shape, start, end)
        ):
            bits = _BITS.get(dtype)
            if bits is not None and prod(shape) * bits == (end - start) * 8:
                return start, end
            raise InputError(
                f"{path.name}: "
                f"{format_value(name)} must be as long as {shape} of {format_value(dtype, 20)} are"
            )
    raise InputError(
        f"{path.name} must give the offsets of its tensors: {format_value(name)} has none"
    )
