"""`Client`: the base of all clients."""

from typing import Self

from cfai._session.session import Session
from cfai.settings import Settings


class Client:
    """A client with settings and a session. Use it in `async with`, or close it with `aclose`."""

    _settings: Settings
    _session: Session
    _owns_connections: bool
    """Whether closing the client closes the connections."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._settings.base_url}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections, unless they belong to another client. Safe to repeat."""
        if self._owns_connections:
            await self._session.connections.aclose()

    close = aclose
