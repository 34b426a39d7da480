"""Function calling: Python functions as tools of a model, and the loop that runs them."""

from cfai.tools.events import (
    Step,
    ToolEvent,
    ToolFailed,
    ToolOutcome,
    ToolReturned,
    ToolStarted,
    Turn,
)
from cfai.tools.runner import ToolRun
from cfai.tools.toolbox import AnyTool, PythonTool, Toolbox

__all__ = [
    "AnyTool",
    "PythonTool",
    "Step",
    "ToolEvent",
    "ToolFailed",
    "ToolOutcome",
    "ToolReturned",
    "ToolRun",
    "ToolStarted",
    "Toolbox",
    "Turn",
]
