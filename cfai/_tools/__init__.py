"""Tools: Python functions that a model may call, and the loop in which it calls them."""

from cfai._tools.run import (
    ToolRun as ToolRun,
)
from cfai._tools.steps import (
    Step as Step,
    ToolEvent as ToolEvent,
    ToolFailed as ToolFailed,
    ToolOutcome as ToolOutcome,
    ToolReturned as ToolReturned,
    ToolStarted as ToolStarted,
    Turn as Turn,
)
from cfai._tools.toolbox import (
    AnyTool as AnyTool,
    PythonTool as PythonTool,
    Toolbox as Toolbox,
)
