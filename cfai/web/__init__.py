"""Token streams as responses of web frameworks.

`cfai.web.aiohttp` is for aiohttp, `cfai.web.starlette` for Starlette and FastAPI, `cfai.web.asgi`
for every other ASGI framework. `Relay` and `Refusal` serve any other framework.
"""

from typing import TYPE_CHECKING, Any

from cfai._lazy import Face

if TYPE_CHECKING:
    from cfai.streaming.relay import Relay as Relay
    from cfai.web.refusal import Refusal as Refusal

_face = Face(__name__, {"cfai.streaming.relay": "Relay", "cfai.web.refusal": "Refusal"})

__all__ = _face.names  # noqa: PLE0605  # a list of texts, though no literal one


def __getattr__(name: str) -> Any:
    return _face.load(name)


def __dir__() -> list[str]:
    return _face.listed()
