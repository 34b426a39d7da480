"""Fine-tunes on the wire: what creates one, what uploads its files, and the rows of the lists."""

import re
from collections.abc import Mapping
from typing import Any, Final

from attrs import evolve

from cfai._types.json import structure
from cfai._wire.listings import rows
from cfai._wire.multipart import File, Progress, form
from cfai._wire.paths import segment
from cfai._wire.requests import Request, with_form, with_json
from cfai._wire.responses import unwrapped
from cfai.errors import DecodeError, InputError
from cfai.listings import Finetune, FinetuneAsset
from cfai.settings import Options, Settings

OWN: Final = "finetunes"
PUBLIC: Final = "finetunes/public"

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise InputError(f"{name} must be a text with something in it, got {value!r:.60}")
    return value


def create(
    settings: Settings,
    options: Options | None,
    *,
    model: str,
    name: str,
    description: str | None,
    public: bool | None,
) -> Request:
    """`POST /ai/finetunes`. Carried out twice, it would make two.

    Source: Workers AI API, "Create a new Finetune".
    """
    given: dict[str, Any] = {"model": _text("model", model), "name": _text("name", name)}
    if description is not None:
        if not isinstance(description, str):
            raise InputError(f"description must be a text, got {description!r:.60}")
        given["description"] = description
    if public is not None:
        if not isinstance(public, bool):
            raise InputError(f"public must be true or false, got {public!r:.60}")
        given["public"] = public
    return with_json(settings, options, OWN, given)


def upload(
    settings: Settings,
    options: Options | None,
    finetune: str,
    file: File,
    progress: Progress | None,
) -> Request:
    """`POST /ai/finetunes/{finetune_id}/finetune-assets`: its name as a field, and then the file.

    A file can't be replaced once it is there, so this is not carried out twice.
    Source: Cloudflare's OpenAPI document of 2024-08; the order: github.com/cloudflare/workers-sdk.
    """
    path = f"{OWN}/{segment('finetune', finetune)}/finetune-assets"
    body = form({"file_name": file.name}, [("file", file)], progress)
    return with_form(settings, options, path, body, repeatable=False)


def _row(row: Any, where: str) -> Finetune:
    return evolve(structure(row, Finetune, where), raw=row)


def _checked_row(row: Any, where: str) -> Finetune:
    """A row whose id is documented as a UUID: of the public list, and of what was just made."""
    finetune = _row(row, where)
    if not _UUID.fullmatch(finetune.id):
        raise DecodeError(f"{where}.id is documented as a UUID, got {finetune.id!r:.60}")
    return finetune


own_rows: Final = rows(_row)
public_rows: Final = rows(_checked_row)


def created(document: Any) -> Finetune:
    """The fine-tune that was made."""
    return _checked_row(unwrapped(document), "result")


def uploaded(document: Any) -> FinetuneAsset:
    """The file that was taken: some sources document a result, others `success` alone."""
    result = document.get("result") if isinstance(document, Mapping) else None
    if not result:
        return FinetuneAsset()
    try:
        return evolve(structure(result, FinetuneAsset, "result"), raw=result)
    except DecodeError:
        # The file is there, and can't be sent again: an odd row is no reason to fail.
        return FinetuneAsset(raw=result if isinstance(result, Mapping) else None)
