"""A scripted Workers AI for tests: real sockets, literal bytes, failures on demand, no patching.

`FakeWorkersAI` is enough for most tests; `FakeCohere` is the same for `cfai.Cohere`. The pytest
fixture is in `cfai.testing.plugin`, the only module here that needs pytest.
"""

from cfai.testing._cohere import FakeCohere
from cfai.testing._fake import FakeWorkersAI
from cfai.testing._recorded import HangUp, Headers, Part, Recorded, SocketStep
from cfai.testing._script import Framing, Reply, Script
from cfai.testing._simulation import Counters, Service, Simulation, vector_of
from cfai.testing._sockets import FakeSocket

__all__ = [
    "Counters",
    "FakeCohere",
    "FakeSocket",
    "FakeWorkersAI",
    "Framing",
    "HangUp",
    "Headers",
    "Part",
    "Recorded",
    "Reply",
    "Script",
    "Service",
    "Simulation",
    "SocketStep",
    "vector_of",
]
