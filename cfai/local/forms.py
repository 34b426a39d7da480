"""Forms (multipart/form-data), field by field as they come in."""

from collections.abc import AsyncIterator

from aiohttp import BodyPartReader, MultipartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from cfai.local.faults import against_rule

_PIECE = 64 << 10


async def fields(request: web.Request) -> AsyncIterator[BodyPartReader]:
    """Give each field when its turn comes; the one before need not have been read.

    Raises:
        Fault: The body is no form.
    """
    if request.content_type != "multipart/form-data":
        raise against_rule("the body must be a form (multipart/form-data)")
    try:
        reader = await request.multipart()
        while (field := await reader.next()) is not None:
            if isinstance(field, MultipartReader):
                raise against_rule("a form must not hold a form")
            yield field
    except (ValueError, web.RequestPayloadError, EOFError, HttpProcessingError) as exc:
        raise against_rule("the form is not what its headers say, or was cut") from exc


async def content(field: BodyPartReader, at_most: int) -> bytes | None:
    """Give what a field holds; `None` where it is more than *at_most* bytes."""
    said = bytearray()
    while piece := await field.read_chunk(_PIECE):
        said += piece
        if len(said) > at_most:
            return None
    return bytes(said)
