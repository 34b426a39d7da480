"""`cfai decide` and `cfai extract`: answers to typed questions, and typed fields of a text."""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from functools import partial
from pathlib import Path
from types import GenericAlias
from typing import Any, Final

import click

from cfai._types.read import TypeMismatch, read_value
from cfai.cli import clients, console, files
from cfai.cli.console import Target, output_option
from cfai.cli.inputs import IMAGE_OR_TEXT, AttachedFile, attach_option, join_texts
from cfai.errors import InputError
from cfai.tasks import (
    Choice,
    ChoiceDecision,
    DateField,
    DateTimeField,
    Decide,
    Decision,
    Decisions,
    DurationField,
    Extract,
    ExtractedField,
    Extraction,
    ListField,
    Noul,
    NoulDecision,
    NumberField,
    Score,
    ScoreDecision,
    TextField,
    TimeField,
)

_CLEF: Final = "@cf/cloudflare/clef"
_CLAIRIC: Final = "@cf/cloudflare/clairic"

_FORM: Final = re.compile(r"\s*([\w.-]+)\s*(?::([^=]*))?(?:=(.*))?", re.DOTALL)
"""NAME[:TYPE][=INSTRUCTIONS]"""

_FIELDS: Final[Mapping[str, Callable[[str | None], Any]]] = {
    "str": TextField,
    "int": lambda instructions: NumberField(instructions, integer=True),
    "float": NumberField,
    "date": DateField,
    "time": TimeField,
    "datetime": DateTimeField,
    "duration": DurationField,
    "list": ListField,
}

_KINDS: Final[Mapping[str, Any]] = {
    "text": str,
    "number": float,
    "date": date,
    "time": time,
    "datetime": datetime,
    "duration": float,
}
"""The types of the values of fields, by those in the request. Others are not checked."""

_json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print all that the service sent, not only the values."
)


@click.command()
@click.argument(
    "state",
    required=False,
    metavar="[TEXT]",
    help="What to decide about: text, @FILE, or - for stdin.",
)
@click.option(
    "--question",
    "-q",
    multiple=True,
    required=True,
    metavar="NAME[:OPTIONS][=TEXT]",
    help='Such as "refund=Do they want money back?": yes or no. OPTIONS a|b|c make it a '
    "choice, low<high a rating. Or a JSON object of questions.",
)
@attach_option("An image, a sound, a video, a text or a document to decide about.")
@clients.model_option(_CLEF)
@output_option
@_json_option
def decide(
    state: str | None,
    *,
    question: tuple[str, ...],
    attach: tuple[str, ...],
    model: str,
    output: Path | None,
    as_json: bool,
) -> None:
    """Answer typed questions about a text or images; print a JSON object of the answers."""
    target = Target(output)
    questions = _parse_named("--question", question, _parse_question)
    attached = [AttachedFile.read(name) for name in attach]
    text = _read_state(state, attached)

    async def run() -> Decisions:
        async with clients.open_client(local=False) as ai:
            media: dict[str, list[bytes]] = {"images": [], "audio": [], "videos": []}
            names = {"image": "images", "audio": "audio", "video": "videos"}
            for file in attached:
                if file.media is not None:
                    media[names[file.media]].append(file.data)
            texts = [file for file in attached if file.media is None]
            sources: Any = {name: items for name, items in media.items() if items}
            task = Decide(await join_texts(ai, text, texts), questions, **sources)
            return await ai.run(model, task)

    decisions = asyncio.run(run())
    values = {name: _decided_value(questions[name], decisions.get(name)) for name in questions}
    _write(target, values, decisions, partial(_check_decision, questions), as_json=as_json)


@click.command()
@click.argument("text", required=False, help="The text: itself, @FILE, or - for stdin.")
@click.option(
    "--field",
    "-f",
    multiple=True,
    required=True,
    metavar="NAME[:TYPE][=TEXT]",
    help='Such as "total:float=With shipping". The types are '
    f"{', '.join(_FIELDS)}. Or a JSON object of fields.",
)
@attach_option("An image, a text or a document to extract from.")
@clients.model_option(_CLAIRIC)
@output_option
@_json_option
def extract(
    text: str | None,
    *,
    field: tuple[str, ...],
    attach: tuple[str, ...],
    model: str,
    output: Path | None,
    as_json: bool,
) -> None:
    """Extract typed fields from a text or images; print a JSON object of their values."""
    target = Target(output)
    fields = _parse_named("--field", field, _parse_field)
    attached = [AttachedFile.read(name) for name in attach]
    state = _read_state(text, attached)

    async def run() -> Extraction:
        async with clients.open_client(local=False) as ai:
            images = [file.data for file in attached if file.media == "image"]
            texts = [file for file in attached if file.media != "image"]
            task = Extract(
                await join_texts(ai, state, texts, accepted=IMAGE_OR_TEXT),
                fields,
                images=images or None,
            )
            return await ai.run(model, task)

    extraction = asyncio.run(run())
    values = {name: extraction[name].value if name in extraction else None for name in fields}
    _write(target, values, extraction, partial(_check_value, fields), as_json=as_json)


def _read_state(argument: str | None, attached: list[AttachedFile]) -> str:
    text = files.read_prompt(argument, "TEXT")
    if not (text.strip() or attached):
        raise InputError("there is no text: give text, @FILE, or pipe one in")
    return text


def _write(
    target: Target,
    values: Mapping[str, Any],
    answer: Decisions | Extraction,
    find_problem: Callable[[str, Any], str | None],
    *,
    as_json: bool,
) -> None:
    """Write all values, since they are paid for; then the errors of the answers that have one.

    A missing answer is null.
    """
    target.write_json(answer.raw if as_json else values)
    target.check_suffix("application/json")
    has_failed = False
    for name in values:
        if name in answer:
            problem = find_problem(name, answer[name])
        else:
            reason = answer.unread.get(name)
            problem = "there is no answer" if reason is None else f"the answer is {reason}"
        if problem is not None:
            console.write_stderr(f"error: {name}: {problem}")
            has_failed = True
    if has_failed:
        raise click.exceptions.Exit(console.EXIT_FAILED)


def _check_decision(questions: Mapping[str, Any], name: str, decision: Decision) -> str | None:
    """Find out why a decision is none of those that its question allows."""
    form = _to_json(questions[name])
    match form["type"], decision:
        case ("noul", NoulDecision()):
            return None
        case ("choice", ChoiceDecision(choice=choice)):
            if choice in form["criteria"]:
                return None
            rule, value = f"one of {', '.join(form['criteria'])}", repr(choice)
        case ("score", ScoreDecision(score=score)):
            top = len(form["criteria"]) - 1
            if 0 <= decision.level <= top:
                return None
            rule, value = f"a level from 0 to {top}", f"{score:g}"
        case _:
            rule, value = f"a {form['type']}", f"a {type(decision).__name__}"
    return f"the answer must be {rule}, got {value}"


def _check_value(fields: Mapping[str, Any], name: str, answer: ExtractedField) -> str | None:
    """Find out why a value is not of the type of its field; null is of every type."""
    if answer.value is None:
        return None
    form = _to_json(fields[name])
    is_list = form["type"] == "list"
    kind = _KINDS.get(form.get("items", "") if is_list else form["type"], Any)
    if kind is float and form.get("integer"):
        kind = int
    try:
        read_value(answer.value, GenericAlias(list, kind) if is_list else kind, "the answer")
    except TypeMismatch as exc:
        return str(exc)
    return None


def _to_json(part: Any) -> Mapping[str, Any]:
    """A question or a field in the form of the service."""
    form: Mapping[str, Any] = part if isinstance(part, Mapping) else part.payload()
    return form


# Questions and fields


def _parse_named(
    option: str, arguments: Sequence[str], parse: Callable[[str, str, str | None], Any]
) -> dict[str, Any]:
    """Read the values of a repeated option: NAME[:TYPE][=INSTRUCTIONS], or a JSON object of them.

    Raises:
        InputError: One is neither, or a name is there twice.
    """
    named: dict[str, Any] = {}
    for argument in arguments:
        text = files.read_text_argument(argument, option)
        if text.lstrip().startswith("{"):
            new = _parse_json(option, text)
        else:
            form = _FORM.fullmatch(text)
            if form is None:
                raise InputError(f"{option} must be NAME[:TYPE][=TEXT], got {text!r}")
            name, kind, instructions = form[1], (form[2] or "").strip(), form[3]
            new = {name: parse(name, kind, instructions and instructions.strip())}
        if twice := named.keys() & new.keys():
            raise InputError(f"{option} must give each name once, got {min(twice)} twice")
        named.update(new)
    return named


def _parse_json(option: str, text: str) -> dict[str, Any]:
    import json

    try:
        value: dict[str, Any] = json.loads(text)
    except ValueError as exc:
        raise InputError(f"{option} that starts with {{ must be a JSON object: {exc}") from exc
    return value


def _parse_question(name: str, options: str, instructions: str | None) -> Any:
    text = instructions or name.replace("_", " ").replace("-", " ").strip()
    if not options or options == "bool":
        return Noul(text)
    is_rating = "<" in options
    names = [option.strip() for option in options.split("<" if is_rating else "|")]
    is_mixed = is_rating and "|" in options
    if is_mixed or len(names) < 2 or not all(names) or len(set(names)) < len(names):
        raise InputError(
            f"--question {name} must have different options such as yes|no, or levels such as "
            f"low<high, got {options!r}"
        )
    return Score(text, names) if is_rating else Choice.of(text, names)


def _parse_field(name: str, kind: str, instructions: str | None) -> Any:
    build = _FIELDS.get(kind or "str")
    if build is None:
        raise InputError(f"--field {name} must be one of {', '.join(_FIELDS)}, got {kind!r}")
    return build(instructions or None)


def _decided_value(question: Any, decision: Any) -> Any:
    """The answer alone: true or false, the option, or the nearest level."""
    match decision:
        case NoulDecision():
            return decision.yes
        case ChoiceDecision():
            return decision.choice
        case ScoreDecision():
            levels = question.criteria if isinstance(question, Score) else question["criteria"]
            return levels[decision.level] if 0 <= decision.level < len(levels) else decision.score
    return None
