"""A Workers AI of your own: the same protocol on the loopback, answered by small real models.

It never imports the client's side of the protocol, so that each catches the other's mistakes.
Importing this loads no model, and nothing that models need.
"""

from cfai.local.journal import Exchange
from cfai.local.server import Server

__all__ = ["Exchange", "Server"]
