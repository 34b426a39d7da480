"""Function calling: Python functions as tools of a model, and the loop that runs them."""

from cfai.tools.events import (
    Step,
    ToolEvent as ToolEvent,
    ToolFailed as ToolFailed,
    ToolOutcome as ToolOutcome,
    ToolReturned as ToolReturned,
    ToolStarted as ToolStarted,
    Turn as Turn,
)
from cfai.tools.runner import (
    ToolRun,
)
from cfai.tools.toolbox import (
    AnyTool as AnyTool,
    PythonTool as PythonTool,
    Toolbox as Toolbox,
)

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
