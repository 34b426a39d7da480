"""What every client is: settings, a session that carries its calls, and an end."""

from types import TracebackType
from typing import Self

from cfai._session.session import Session
from cfai.settings import Settings


class Client:
    """A client, whichever provider it is for. Used in `async with`, or closed with `aclose`."""

    _settings: Settings
    _session: Session
    _owns: bool
    """Whether the connections are its own to close."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._settings.base_url}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections, if they are this client's own. Safe to repeat."""
        if self._owns:
            await self._session.connections.aclose()

    close = aclose
