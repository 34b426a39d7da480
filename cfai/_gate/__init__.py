"""How much is asked of the service at once, and how often: decisions, and the gate that keeps them.

`limits` and `pace` decide, given the clock; `gate` waits.
"""

from cfai._gate.gate import Attempt, Gate
from cfai._gate.gates import Concurrency, Gates, Rate, limit_of, per_minute
from cfai._gate.limits import Adaptive

__all__ = ["Adaptive", "Attempt", "Concurrency", "Gate", "Gates", "Rate", "limit_of", "per_minute"]
