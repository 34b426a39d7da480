"""A scripted Workers AI for tests: real sockets, literal bytes, faults on demand, nothing patched.

`FakeWorkersAI` is all that most tests need; `FakeCohere` is its sibling for `cfai.Cohere`. For
pytest, `cfai.testing.plugin` has the first as a fixture; nothing in this package needs pytest
unless that module is imported.
"""

from cfai.testing._cohere import FakeCohere
from cfai.testing._fake import FakeWorkersAI
from cfai.testing._record import Headers, Recorded
from cfai.testing._script import Framing, HangUp, Part, Reply, Script
from cfai.testing._simulation import Counters, Service, Simulation, vector_of

__all__ = [
    "Counters",
    "FakeCohere",
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
