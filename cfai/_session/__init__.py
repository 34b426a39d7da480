"""The only client room with a socket. It decides nothing about the protocol: `_wire` does."""

from cfai._session.body import Body
from cfai._session.connections import Connections
from cfai._session.session import Session

__all__ = ["Body", "Connections", "Session"]
