"""The options that commands share. Their bounds are those of the tasks, and written only there."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cfai.tasks import Rule, TextGeneration, rules


def _span(rule: Rule) -> str:
    match rule.minimum, rule.maximum:
        case None, None:
            return ""
        case low, None:
            return f", at least {low}"
        case None, high:
            return f", at most {high}"
    return f", from {rule.minimum} to {rule.maximum}"


def _bounded(name: str, what: str) -> Any:
    rule = rules(TextGeneration)[name]
    return typer.Option(f"--{name.replace('_', '-')}", help=f"{what}{_span(rule)}.")


MaxTokens = Annotated[int | None, _bounded("max_tokens", "The longest answer, in tokens")]
Temperature = Annotated[float | None, _bounded("temperature", "Higher is more random")]
Seed = Annotated[int | None, _bounded("seed", "The same seed gives the same answer again")]

Local = Annotated[
    bool, typer.Option("--local", help="Ask small models on this machine: no account needed.")
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the answer to a file.")
]


def check(**given: Any) -> dict[str, Any]:
    """Give those options of text generation that are set, after a check of each.

    Raises:
        InputError: One is out of its bounds.
    """
    known = rules(TextGeneration)
    chosen = {name: value for name, value in given.items() if value is not None}
    for name, value in chosen.items():
        known[name].check(value)
    return chosen
