"""Values as plain ones: what `json` and every web framework can encode."""

from array import array
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import attrs


def plain_fields(value: Any, *without: str) -> dict[str, Any]:
    """Give the fields of an attrs value as a dictionary of plain values."""
    names = (one.name for one in attrs.fields(type(value)))
    return {name: plain(getattr(value, name)) for name in names if name not in without}


def plain(value: Any) -> Any:
    """Give a value that JSON knows: base64 text for bytes, lists for tuples and arrays."""
    if attrs.has(type(value)):
        return plain_fields(value, "meta", "raw")
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, array):
        return value.tolist()
    if isinstance(value, bytes):
        return b64encode(value).decode("ascii")
    return value
