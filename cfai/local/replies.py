"""What every answer carries: its headers, and JSON as the body."""

import secrets
from collections.abc import Mapping

from aiohttp import web


def headers(backend: str = "") -> dict[str, str]:
    """Give the headers of an answer, with the name of the backend that computed it, if one did."""
    named = {"cfai-backend": backend} if backend else {}
    return {"cf-ray": f"{secrets.token_hex(8)}-LOCAL", "cfai-local": "1"} | named


def document(status: int, payload: bytes, said: Mapping[str, str]) -> web.Response:
    """Give an answer of JSON."""
    return web.Response(
        status=status, body=payload, headers={"Content-Type": "application/json", **said}
    )
