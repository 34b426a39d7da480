"""What the server has answered: one value per request, once its model has come to rest too."""

import asyncio
from collections.abc import Callable

from attrs import define, frozen

from cfai.local.backends.roles import Ending

CLIENT_GONE = 499
"""The status of a request whose client left before the answer began."""


@frozen
class Exchange:
    """A request that was answered."""

    model: str | None
    """The model in the path; `None` where the request did not come so far."""
    status: int
    """The HTTP status; 499 where the client left before the answer began."""
    backend: str | None = None
    """What answered."""
    ending: Ending | None = None
    """How the text ended, where one was written. "stopped" is by the client's leaving."""


Hear = Callable[[Exchange], object]


@define
class Note:
    """What is known of a request while it is answered."""

    model: str | None = None
    status: int = CLIENT_GONE
    backend: str | None = None
    ending: asyncio.Future[Ending] | None = None

    def close(self, hear: Hear) -> None:
        """Tell *hear* of the exchange, when its model has come to rest."""
        if self.ending is None:
            hear(Exchange(self.model, self.status, self.backend))
        else:
            self.ending.add_done_callback(lambda ending: hear(self._with(ending)))

    def _with(self, ending: asyncio.Future[Ending]) -> Exchange:
        failed = ending.cancelled() or ending.exception() is not None
        known = None if failed else ending.result()
        return Exchange(self.model, self.status, self.backend, known)
