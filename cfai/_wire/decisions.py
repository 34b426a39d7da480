"""Reads the answers of typed decisions and extractions.

An answer to one question that can't be read spoils neither the others nor the whole answer.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from cfai._types.excerpts import format_value
from cfai._validators import is_finite_number
from cfai._wire.text import read_number, read_optional_string, read_usage, undocumented_error
from cfai.tasks import (
    Answer,
    ChoiceDecision,
    Decision,
    Decisions,
    Estimate,
    ExtractedField,
    Extraction,
    NoulDecision,
    ScoreDecision,
)

V = TypeVar("V")


class _UnreadableError(ValueError):
    """The reason why one answer can't be read."""


def _read_entries(
    result: Any, read: Callable[[Mapping[str, Any]], V]
) -> tuple[dict[str, V], dict[str, str]]:
    """The answers of a result that can be read, and why the others can't."""
    entries = result.get("answers") if isinstance(result, dict) else None
    if not isinstance(entries, dict):
        raise undocumented_error("answers must be an object", result)
    answers, unread = {}, {}
    for name, entry in entries.items():
        try:
            if not isinstance(entry, dict):
                raise _UnreadableError(f"no object: {format_value(entry)}")
            answers[name] = read(entry)
        except _UnreadableError as exc:
            unread[name] = str(exc)
    return answers, unread


def _main_number(entry: Mapping[str, Any], key: str) -> float:
    number = read_number(entry.get(key))
    if number is None:
        raise _UnreadableError(
            f"undocumented: {key} must be a number, got {format_value(entry.get(key))}"
        )
    return number


def _probabilities(value: Any) -> dict[str, float]:
    """The probabilities among the entries of an object."""
    if not isinstance(value, dict):
        return {}
    numbers = ((name, read_number(number)) for name, number in value.items())
    return {name: number for name, number in numbers if number is not None}


def _read_decision(entry: Mapping[str, Any]) -> Decision:
    match entry:
        case {"type": "noul"}:
            return NoulDecision(_main_number(entry, "noul"))
        case {"type": "choice", "choice": str(choice)}:
            return ChoiceDecision(
                choice,
                _probabilities(entry.get("probabilities")),
                read_number(entry.get("confidence")),
            )
        case {"type": "score"}:
            legend = entry.get("legend")
            return ScoreDecision(
                _main_number(entry, "score"),
                _probabilities(entry.get("probabilities")),
                legend if isinstance(legend, dict) else {},
                read_number(entry.get("confidence")),
            )
    raise _UnreadableError(f"undocumented: {format_value(entry)}")


def read_decisions(result: Any) -> Decisions:
    """Read the result of a Clef model. Source: the model card of @cf/cloudflare/clef."""
    answers, unread = _read_entries(result, _read_decision)
    return Decisions(
        answers,
        unread,
        model=read_optional_string(result.get("model")),
        usage=read_usage(result.get("usage")),
    )


# Extractions. Clairic has no official schema: every form that its clients know is accepted.


def _read_field(entry: Mapping[str, Any]) -> ExtractedField:
    if "value" not in entry:
        raise _UnreadableError(f"undocumented: it has no value: {format_value(entry)}")
    steps = entry.get("steps")
    has_estimate = not _ESTIMATES.isdisjoint(entry)
    return ExtractedField(
        read_optional_string(entry.get("type")) or "",
        entry["value"],
        guess=entry.get("guess"),
        p_null=read_number(entry.get("p_null")),
        confidence=read_number(entry.get("confidence")),
        span=_read_span(entry.get("span")),
        source=read_optional_string(entry.get("source")),
        spans=tuple(_read_span(span) for span in _items(entry.get("spans"))),
        confidences=tuple(read_number(number) for number in _items(entry.get("confidences"))),
        unit=read_optional_string(entry.get("unit")),
        estimate=_read_estimate(entry) if has_estimate else None,
        steps=tuple(_read_estimate(step) for step in _items(steps) if isinstance(step, dict)),
        raw=entry,
    )


_ESTIMATES: Final = frozenset({"mean", "median", "p10", "p90", "p_below", "p_above", "quantiles"})


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _read_span(value: Any) -> tuple[int, int] | None:
    match value:
        case [int(start), int(end)]:
            return start, end
    return None


def _read_point(value: Any) -> float | str | None:
    """A number, or a date as text."""
    return value if isinstance(value, str) or is_finite_number(value) else None


def _read_estimate(entry: Mapping[str, Any]) -> Estimate:
    points = (_read_point(value) for value in _items(entry.get("quantiles")))
    return Estimate(
        _read_point(entry.get("value")),
        _read_point(entry.get("mean")),
        _read_point(entry.get("median")),
        _read_point(entry.get("p10")),
        _read_point(entry.get("p90")),
        read_number(entry.get("p_below")),
        read_number(entry.get("p_above")),
        tuple(point for point in points if point is not None),
    )


def read_extraction(result: Any) -> Extraction:
    """Read the result of a Clairic model."""
    answers, unread = _read_entries(result, _read_field)
    truncated = result.get("truncated")
    return Extraction(
        answers,
        unread,
        truncated if isinstance(truncated, bool) else None,
        read_optional_string(result.get("state_text")),
        read_optional_string(result.get("model")),
        read_usage(result.get("usage")),
    )


READERS: Final[dict[type[Answer], Callable[[Any], Answer]]] = {
    Decisions: read_decisions,
    Extraction: read_extraction,
}
