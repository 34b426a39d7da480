"""A scripted Workers AI for tests: real sockets, literal bytes, faults on demand, nothing patched.

`FakeWorkersAI` is all that most tests need. For pytest, `cfai.testing.plugin` has it as a fixture;
nothing in this package needs pytest unless that module is imported.
"""

from cfai.testing._fake import FakeWorkersAI
from cfai.testing._record import Headers, Recorded
from cfai.testing._script import Framing, HangUp, Part, Reply, Script
from cfai.testing._simulation import Counters, Service, Simulation, vector_of

__all__ = [
    "Counters",
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
    "vector_of",
]
