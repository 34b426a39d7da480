"""A Workers AI server for this machine: the service's protocol, answered by small local models.

It implements the protocol independently of the client's modules, so that each side catches the
other's mistakes. Importing this package loads no model and none of the models' libraries.
"""

from typing import TYPE_CHECKING

from cfai._lazy import export

if TYPE_CHECKING:
    # Tools that freeze programs find modules by the import statements in the bytecode.
    from cfai.local import exchange, faults, server, tapes  # noqa: F401
    from cfai.local.backends import upstream  # noqa: F401
    from cfai.local.handlers import generation  # noqa: F401

_EXPORTS = {
    "cfai.local.backends.upstream": "Upstream",
    "cfai.local.exchange": "Exchange Limits",
    "cfai.local.faults": "Fault",
    "cfai.local.handlers.generation": "Latency",
    "cfai.local.server": "Server",
    "cfai.local.tapes": "Record Replay",
}
"""The public names by the modules that define them. After a change, run `python -m tests.stubs`."""

__getattr__, __dir__, __all__ = export(__name__, _EXPORTS)
