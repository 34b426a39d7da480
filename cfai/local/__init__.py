"""A Workers AI of your own: the same protocol on the loopback, answered by small real models.

It never imports the client's side of the protocol, so that each catches the other's mistakes.
Importing this loads no model, and nothing that models need.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cfai.local.journal import Exchange
    from cfai.local.server import Server

__all__ = ["Exchange", "Server"]

_HOMES = {"Exchange": "cfai.local.journal", "Server": "cfai.local.server"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
