"""Where a request goes: the paths of the API, and who answers there."""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import unquote

from aiohttp import web
from attrs import frozen

from cfai.local import faults
from cfai.local.checks import Body, decoded

_ACCOUNT = re.compile(r"/client/v4/accounts/(?P<account>[^/]+)/ai/(?P<rest>.+)")
_RUN = "run/"
_ANY = "*"
_LARGEST = 2**63 - 1


@frozen
class Visit:
    """A request, and what its path names."""

    request: web.Request
    account: str
    """Whose the request is about: the account in the path."""
    model: str | None = None
    """The model to run; `None` where the request is for something else."""
    named: str = ""
    """What else the path names, a fine-tune for one."""

    def whole(self, name: str, otherwise: int, *, least: int = 0) -> int:
        """Give a number of the query, *least* or more; *otherwise* where it is left out.

        Raises:
            Fault: It is something else.
        """
        said = self.request.query.get(name)
        if said is None:
            return otherwise
        number = int(said) if said.isascii() and said.isdigit() and len(said) < 20 else -1
        if not least <= number <= _LARGEST:
            raise faults.against_rule(
                f"{name} must be a whole number, {least} or more, got {said[:60]!r}"
            )
        return number

    async def read(self) -> bytes:
        """Give the bytes of the body.

        Raises:
            Fault: There are too many, or they are not encoded as the headers say.
        """
        try:
            return await self.request.read()
        except web.HTTPRequestEntityTooLarge as exc:
            raise faults.too_large(self.request.client_max_size) from exc
        except web.RequestPayloadError as exc:
            raise faults.bad_input("the body is not encoded as its headers say") from exc

    async def body(self) -> Body:
        """Give the JSON object that the body is.

        Raises:
            Fault: It is none.
        """
        return decoded(await self.read())


Handler = Callable[[Visit], Awaitable[Any]]
"""Gives the result of a request, which goes into an envelope."""

Places = Mapping[str, Mapping[str, Handler]]
"""Who answers what under `/ai/`: by path, in which `*` stands for any one name, and by method."""


def found(request: web.Request, places: Places) -> tuple[Visit, Handler | None]:
    """Give what a request is for, and its handler; none where a model is to be run.

    The path is not decoded before its slashes are seen.

    Raises:
        Fault: Nobody answers there, or not to this method.
    """
    path = request.raw_path.partition("?")[0]
    parts = _ACCOUNT.fullmatch(path)
    if not parts:
        raise faults.not_routed(path)
    account, rest = unquote(parts["account"]), parts["rest"]
    if rest.startswith(_RUN) and len(rest) > len(_RUN):
        if "%2f" in path.lower():
            raise faults.no_route()
        _among(request.method, {"POST"})
        return Visit(request, account, unquote(rest.removeprefix(_RUN))), None
    names = rest.split("/")
    for place, methods in places.items():
        held = _held(place.split("/"), names)
        if held is not None:
            _among(request.method, methods)
            return Visit(request, account, named=held), methods[request.method]
    raise faults.not_routed(path)


def _among(method: str, methods: Mapping[str, Handler] | set[str]) -> None:
    if method not in methods:
        raise faults.wrong_method(method)


def _held(place: list[str], names: list[str]) -> str | None:
    """Give what stands for the `*`, or an empty text; `None` where it is another place."""
    if len(place) != len(names):
        return None
    held = ""
    for ours, theirs in zip(place, names, strict=True):
        if ours == _ANY and theirs:
            held = unquote(theirs)
        elif ours != theirs:
            return None
    return held
