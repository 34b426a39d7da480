"""The errors of keyword arguments that a method does not have, which name the right place."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

from cfai import tasks
from cfai.settings import Options

_NAMES_IN_OTHER_SDKS: Final = {
    "timeout": "timeouts=Timeouts(total=...)",
    "max_retries": "retries=Retries(max=...)",
    "default_headers": "headers=...",
    "extra_headers": "headers=...",
    "token": "api_token=...",
}
"""Arguments of other SDKs, and what they are called here."""

_GENERATION: Final = {"Prompt": "text", "TextGeneration": "messages"}

_TASKS: Final[Mapping[str, Mapping[str, str]]] = {
    "run": _GENERATION,
    "stream": _GENERATION,
    "parse": _GENERATION,
    "parse_stream": _GENERATION,
    "queue": _GENERATION,
    "run_tools": {"TextGeneration": "messages"},
    "audio": {"SpeechSynthesis": "text", "TextToSpeech": "prompt"},
    "embed": {"TextEmbeddings": "texts"},
    "decide": {"Decide": "state, questions"},
    "extract": {"Extract": "text, fields"},
}
"""The tasks of a method, with their positional arguments."""

_CLIENT_METHODS: Final = ("WorkersAI", "with_options")
"""They take the settings themselves, and no options of a call."""


def check_keywords(method: str, unknown: Iterable[str], *, options: str = "options") -> None:
    """Check for keyword arguments that *method* does not have.

    Args:
        method: The name of the method.
        unknown: The arguments that it does not have.
        options: The argument that takes the options of a call.

    Raises:
        TypeError: There is one. The message names where it belongs, if that is known.
    """
    for name in unknown:
        way = _find_place(method, name, options)
        problem = f"{method}() got an unexpected keyword argument {name!r}"
        raise TypeError(f"{problem}; {way}" if way else problem)


def _find_place(method: str, name: str, options: str) -> str:
    setting = _NAMES_IN_OTHER_SDKS.get(name, f"{name}=...")
    field = setting.partition("=")[0]
    if method in _CLIENT_METHODS and setting != f"{name}=...":
        return f"pass {setting}"
    if field in attrs.fields_dict(Options):
        where = " to the call" if method in _CLIENT_METHODS else ""
        return f"pass {options}=Options({setting}){where}"
    for task, arguments in _TASKS.get(method, {}).items():
        task_class: Any = getattr(tasks, task)
        if name in tasks.rules(task_class):
            # The arguments of these methods are no task.
            how = "run a task" if method in ("embed", "decide", "extract") else "set it on the task"
            others = "" if name in arguments.split(", ") else f", {name}=..."
            return f"{how}: {task}({arguments}{others})"
    return ""
