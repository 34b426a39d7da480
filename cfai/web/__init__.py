"""Token streams as responses of web frameworks.

`cfai.web.aiohttp` is for aiohttp, `cfai.web.starlette` for Starlette and FastAPI, `cfai.web.asgi`
for every other ASGI framework. `Relay` and `Refusal` serve any other framework.
"""

from cfai.streaming.relay import Relay
from cfai.web.refusal import Refusal

__all__ = ["Refusal", "Relay"]
