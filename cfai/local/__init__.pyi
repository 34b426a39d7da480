# Written by `python -m tests.stubs` from the table in `__init__.py`: change that, not this.
from cfai.local.backends.upstream import Upstream
from cfai.local.exchange import Exchange, Limits
from cfai.local.faults import Fault
from cfai.local.handlers.generation import Latency
from cfai.local.server import Server
from cfai.local.tapes import Record, Replay

__all__ = [
    "Exchange",
    "Fault",
    "Latency",
    "Limits",
    "Record",
    "Replay",
    "Server",
    "Upstream",
]
