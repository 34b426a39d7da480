"""Names that become part of a path: checked, then kept literal. Nothing is percent-encoded."""

import re
from functools import lru_cache
from typing import Final

from cfai.errors import InputError

# RFC 3986, section 3.3: the characters of a path segment, less the percent sign. The service
# answers 400 (code 7000) to a model name whose slashes or @ are percent-encoded.
_SEGMENT: Final = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@\-]+")


@lru_cache(maxsize=256)
def _fault(segment: str) -> str | None:
    """What is wrong with one path segment, if anything is."""
    if not segment:
        return "must not be empty"
    if segment in (".", ".."):
        return "must not be . or .."
    if not _SEGMENT.fullmatch(segment):
        return "must be made of the characters A-Z a-z 0-9 and ._~!$&'()*+,;=:@-"
    return None


def account_segment(account_id: str) -> str:
    """Check an account id. It may be a secret pasted into the wrong place, so it is never shown.

    Raises:
        InputError: It can't be one segment of a path.
    """
    if not isinstance(account_id, str):
        raise InputError(f"account_id must be a text, got {type(account_id).__name__}")
    if fault := _fault(account_id):
        raise InputError(f"account_id {fault} (it has {len(account_id)} characters; not shown)")
    return account_id


def segment(name: str, value: str) -> str:
    """Check one segment, such as an id.

    Raises:
        InputError: It can't be one segment of a path.
    """
    if not isinstance(value, str):
        raise InputError(f"{name} must be a text, got {value!r:.100}")
    if fault := _fault(value):
        raise InputError(f"{name} {fault}, got {value!r:.100}")
    return value


@lru_cache(maxsize=256)
def _model_fault(model: str) -> str | None:
    return next((fault for part in model.split("/") if (fault := _fault(part))), None)


def model_path(model: str) -> str:
    """Check a model's name, whose slashes and @ stay as they are: `@cf/meta/llama-3.1-8b-instruct`.

    Raises:
        InputError: It is empty, or a part of it can't be a segment of a path.
    """
    if not isinstance(model, str):
        raise InputError(f"model must be a text, got {model!r:.100}")
    if fault := _model_fault(model):
        raise InputError(f"each part of model between slashes {fault}, got {model!r:.200}")
    return model
