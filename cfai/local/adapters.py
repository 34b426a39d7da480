"""Whether a file of an adapter (LoRA) is what the service takes: its name, size, rank and tensors.

Source: Cloudflare docs, Workers AI, "Using LoRA adapters".
"""

from pathlib import Path
from typing import Any

import orjson

from cfai.local.faults import Fault, against_rule

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"

LARGEST = 500 << 20
"""The most bytes that a file may have. The service says "500 MB", and not which megabytes."""

_RANKS = range(1, 33)
_TYPES = ("mistral", "gemma", "llama")

# The format's own reader takes 100 MB; an adapter of ten thousand tensors has 2 MB.
_LONGEST_HEADER = 4 << 20
_LONGEST_CONFIG = 1 << 20


def check_name(name: str) -> None:
    """Refuse any file but the two of an adapter.

    Raises:
        Fault: It is another name.
    """
    if name not in (CONFIG, WEIGHTS):
        raise against_rule(f"file_name must be {CONFIG} or {WEIGHTS}, got {name[:100]!r}")


def check(name: str, path: Path) -> None:
    """Check the file *path*, which was uploaded as *name*. Blocks.

    Raises:
        Fault: The service takes no such file.
    """
    if name == CONFIG:
        _check_config(path)
    else:
        _check_weights(path)


def _check_config(path: Path) -> None:
    size = path.stat().st_size
    if size > _LONGEST_CONFIG:
        raise against_rule(f"{CONFIG} must have at most {_LONGEST_CONFIG} bytes, got {size}")
    config = _object(path.read_bytes(), f"{CONFIG} must be a JSON object")
    rank, kind = config.get("r"), config.get("model_type")
    if type(rank) is not int or rank not in _RANKS:
        raise against_rule(f"{CONFIG}: r must be from 1 to {_RANKS[-1]}, got {rank!r:.60}")
    if kind not in _TYPES:
        known = ", ".join(_TYPES)
        raise against_rule(f"{CONFIG}: model_type must be one of {known}, got {kind!r:.60}")


def _check_weights(path: Path) -> None:
    """Read the header alone: the length of a JSON object, the object, and where tensors end."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(size - 8, _LONGEST_HEADER):
            raise against_rule(f"{WEIGHTS} must be a safetensors file, with its header")
        header = _object(file.read(length), f"{WEIGHTS} must have a header that is a JSON object")
    places = sorted(_place(name, it) for name, it in header.items() if name != "__metadata__")
    end = 0
    for start, stop in places:
        if start != end:
            raise against_rule(f"{WEIGHTS} must have its tensors one behind the other")
        end = stop
    if not places or 8 + length + end != size:
        raise against_rule(f"{WEIGHTS} must hold all of its tensors, and has {size} bytes")


def _place(name: str, entry: Any) -> tuple[int, int]:
    match entry:
        case {"dtype": str(), "shape": [*shape], "data_offsets": [start, end]} if (
            all(type(one) is int and one >= 0 for one in (*shape, start, end)) and start <= end
        ):
            return start, end
    raise against_rule(f"{WEIGHTS} must say where its tensors lie: {name[:60]!r} does not")


def _object(raw: bytes, otherwise: str) -> dict[str, Any]:
    refused: Fault = against_rule(otherwise)
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError as exc:
        raise refused from exc
    if not isinstance(found, dict):
        raise refused
    return found
