"""A Workers AI server for this machine: the service's protocol, answered by small local models.

It implements the protocol independently of the client's modules, so that each side catches the
other's mistakes. Importing this package loads no model and none of the models' libraries.
"""

from cfai.local.exchange import Exchange
from cfai.local.server import Server

__all__ = ["Exchange", "Server"]
