"""A Workers AI of your own: the same protocol on the loopback, answered by small real models.

It never imports the client's side of the protocol, so that each catches the other's mistakes.
Importing this loads no model, and nothing that models need.
"""

from typing import TYPE_CHECKING, Any

from cfai._lazy import Face

if TYPE_CHECKING:
    from cfai.local.journal import Exchange as Exchange
    from cfai.local.server import Server as Server

_face = Face(
    __name__,
    {"cfai.local.journal": "Exchange", "cfai.local.server": "Server"},
)

__all__ = _face.names  # noqa: PLE0605  # a list of texts, though no literal one


def __getattr__(name: str) -> Any:
    return _face.load(name)


def __dir__() -> list[str]:
    return _face.listed()
