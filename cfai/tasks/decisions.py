"""Typed decisions (the Clef models): questions about a state, and their answers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final, TypeVar

from attrs import evolve, field, frozen

from cfai._types.excerpts import format_value
from cfai._types.values import Value
from cfai.errors import DecodeError, InputError
from cfai.tasks.attachments import (
    MIB,
    Attachment,
    AttachmentLimit,
    encode_attachments,
    mebibytes,
    parse_attachment,
)
from cfai.tasks.generation import Usage
from cfai.tasks.task import (
    Answer,
    Declared,
    Task,
    many,
    mapping,
    nested,
    shorten,
    task,
)

A = TypeVar("A", bound=Answer)
D = TypeVar("D", bound="Decision")

State = str | Mapping[str, Any] | Sequence[Any]
"""Text, or structured data that JSON can encode."""

# Source: the model cards of @cf/cloudflare/clef and clef-omni.
_AUDIO: Final = AttachmentLimit(r"audio/.+", "a sound (pass {content_type, base64})", 8 * MIB)
_VIDEO: Final = AttachmentLimit(r"video/.+", "a video (pass {content_type, base64})", 16 * MIB)
_IMAGES_TOTAL: Final = 8 * MIB
_CLIPS_TOTAL: Final = 16 * MIB


def _parse_state(value: Any) -> Any:
    if isinstance(value, str | Mapping | list | tuple):
        return value
    raise InputError(f"it must be text, an object or a list, got {shorten(value)}")


def _parse_instructions(value: Any) -> Any:
    if isinstance(value, str | Mapping | list | tuple) and value:
        return value
    raise InputError(f"they must be text, an object or a list, not empty, got {shorten(value)}")


def _parse_level(value: Any) -> Any:
    if isinstance(value, str | Mapping | list | tuple):
        return value
    raise InputError(f"a description must be text, an object or a list, got {shorten(value)}")


def _parse_option(value: Any) -> Any:
    return None if value is None else _parse_level(value)


# Questions


class Question(Declared):
    """The base of the questions: `Noul`, `Choice` and `Score`."""

    __slots__ = ()

    type: ClassVar[str] = ""
    """The type in the request."""

    def payload(self) -> dict[str, Any]:
        """Give the question as JSON."""
        return {"type": self.type, **Declared.payload(self)}


@task
class Noul(Question):
    """A yes/no question, which is answered with a probability.

    Source: the model card of @cf/cloudflare/clef.
    """

    type: ClassVar[str] = "noul"

    instructions: State = nested(_parse_instructions, kind="JSON", kw_only=False)
    """The question: text, or an object or list with the question and what it refers to."""

    criteria: Mapping[str, Any] | None = mapping(
        _parse_level, names="true|false", default=None, kw_only=False
    )
    """What a yes and a no mean, under `"true"` and `"false"`."""


@task
class Choice(Question):
    """The choice of one option.

    Source: the model card of @cf/cloudflare/clef.
    """

    type: ClassVar[str] = "choice"

    instructions: State = nested(_parse_instructions, kind="JSON", kw_only=False)
    """What to decide: text, or an object or list with the question and what it refers to."""

    criteria: Mapping[str, Any] = mapping(_parse_option, at_least=2, at_most=255, kw_only=False)
    """From 2 to 255 options by their ids, each with a description or `None`."""

    @classmethod
    def of(cls, instructions: State, options: Iterable[str]) -> Choice:
        """Create a choice of options without descriptions."""
        return cls(instructions, dict.fromkeys(options))


@task
class Score(Question):
    """A rating on an ordered scale.

    Source: the model card of @cf/cloudflare/clef.
    """

    type: ClassVar[str] = "score"

    instructions: State = nested(_parse_instructions, kind="JSON", kw_only=False)
    """What to rate: text, or an object or list with the question and what it refers to."""

    criteria: Sequence[Any] = many(_parse_level, at_least=2, at_most=10, kw_only=False)
    """From 2 to 10 descriptions of levels, the lowest first. Their numbers start at 0."""


_QUESTIONS: Final[Mapping[str, type[Question]]] = {"noul": Noul, "choice": Choice, "score": Score}


def _parse_question(value: Any) -> Any:
    """Accept a question, or its documented JSON, which is checked and sent unchanged."""
    if isinstance(value, Question):
        return value
    if not isinstance(value, Mapping):
        raise InputError(f"a question must be a Noul, a Choice or a Score, got {shorten(value)}")
    kind: Any = _QUESTIONS.get(str(value.get("type")))
    if kind is None:
        types = ", ".join(_QUESTIONS)
        raise InputError(f"type must be one of {types}, got {shorten(value.get('type'))}")
    kind(value.get("instructions"), value.get("criteria"))
    return value


# Answers


@frozen(eq=False, repr=False)
class NoulDecision(Value):
    """The answer to a `Noul`."""

    probability: float
    """The probability of yes, from 0 to 1."""

    @property
    def yes(self) -> bool:
        """Whether the probability is at least 0.5."""
        return self.probability >= 0.5


@frozen(eq=False, repr=False)
class ChoiceDecision(Value):
    """The answer to a `Choice`."""

    choice: str
    """The id of the most probable option."""

    probabilities: Mapping[str, float] = field(factory=dict)
    """The probability of each option, from 0 to 1. Their sum is 1."""

    confidence: float | None = None
    """How certain the model is, from 0 to 1; `None` if the service did not say so."""


@frozen(eq=False, repr=False)
class ScoreDecision(Value):
    """The answer to a `Score`."""

    score: float
    """The mean of the levels, weighted by their probabilities. It can be between two levels."""

    probabilities: Mapping[str, float] = field(factory=dict)
    """The probability of each level, from 0 to 1, by its number: `{"0": 0.2, "1": 0.8}`."""

    legend: Mapping[str, Any] = field(factory=dict)
    """The description of each level by its number."""

    confidence: float | None = None
    """How certain the model is, from 0 to 1; `None` if the service did not say so."""

    @property
    def level(self) -> int:
        """The number of the level that is nearest to the score; of two, the higher one."""
        return math.floor(self.score + 0.5)


Decision = NoulDecision | ChoiceDecision | ScoreDecision
"""The answer to one question."""


@frozen(eq=False, repr=False)
class Decisions(Answer, Mapping[str, Decision]):
    """The answers to questions, by the ids of the questions.

    `noul`, `choice` and `score` give an answer with its type known.

    Source: the model card of @cf/cloudflare/clef.
    """

    answers: Mapping[str, Decision]
    """The answers by the ids of their questions."""

    unread: Mapping[str, str] = field(factory=dict)
    """Why an answer could not be read, by the id of its question. `raw` has the answer itself."""

    model: str | None = None
    """The model that answered."""

    usage: Usage | None = None
    """The tokens of the input."""

    def __getitem__(self, name: str) -> Decision:
        return self.answers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.answers)

    def __len__(self) -> int:
        return len(self.answers)

    def noul(self, name: str) -> NoulDecision:
        """Give the answer to a `Noul`.

        Raises:
            KeyError: There is no answer to the question *name*.
            DecodeError: The answer could not be read, or is one to another type of question.
        """
        return self._find(name, NoulDecision)

    def choice(self, name: str) -> ChoiceDecision:
        """Give the answer to a `Choice`. Raises the errors of `noul`."""
        return self._find(name, ChoiceDecision)

    def score(self, name: str) -> ScoreDecision:
        """Give the answer to a `Score`. Raises the errors of `noul`."""
        return self._find(name, ScoreDecision)

    def _find(self, name: str, kind: type[D]) -> D:
        if name in self.unread:
            raise DecodeError(f"the answer to {name!r} is {self.unread[name]}", meta=self.meta)
        decision = self.answers[name]
        if not isinstance(decision, kind):
            raise DecodeError(
                f"the answer to {name!r} must be a {kind.__name__}, "
                f"got a {type(decision).__name__}",
                meta=self.meta,
            )
        return decision


# Tasks


@task
class StateTask(Task[A]):
    """A task about a state, of a family of models that need their own name in the body.

    A name that differs from that in the path is an error at the service.
    """

    family: ClassVar[str] = ""
    """The beginning of the models' names."""

    image_limit: ClassVar[AttachmentLimit] = AttachmentLimit(
        r"image/(png|jpeg|webp)", "a PNG, JPEG or WebP image", 4 * MIB
    )

    images: Sequence[Attachment] | None = many(parse_attachment, at_most=4, default=None)
    """Up to 4 images, placed before the state: bytes, paths, open binary files, `Base64`, `data:`
    URLs or `{content_type, base64}`. PNG, JPEG or WebP; each up to 4 MiB, together up to 8 MiB. For
    Clef models, each up to 16 megapixels."""

    def payload(self) -> dict[str, Any]:
        """Give the JSON body of the request, except for the model. Reads the files among it."""
        body = Task.payload(self)
        if self.images is not None:
            body["images"], total = encode_attachments("images", self.images, self.image_limit)
            _check_total("images", total, _IMAGES_TOTAL)
        return body

    def payload_for(self, model: str) -> dict[str, Any]:
        """Give the JSON body of the request for *model*."""
        name = model.rpartition("/")[2]
        # A route of a gateway may have any name.
        if model.startswith(("@cf/", "@hf/")) and not name.startswith(self.family):
            kind = type(self).__name__
            raise InputError(
                f"model must be a {self.family.capitalize()} model for {kind}, such as "
                f"@cf/cloudflare/{self.family}, got {format_value(model)}"
            )
        return {"model": name, **self.payload()}

    def reads_files(self) -> bool:
        """Tell whether building the request reads or encodes media."""
        return bool(self.images)


def _check_total(names: str, total: int, limit: int) -> None:
    if total > limit:
        raise InputError(f"{names} must have at most {mebibytes(limit, total)} together")


@task
class Decide(StateTask[Decisions]):
    """Answer typed questions about a state (the Clef models).

    The answer has a probability for every option of every question. `WorkersAI.decide` builds the
    questions from a class.

    Source: the model cards of @cf/cloudflare/clef, clef-flash and clef-omni.
    """

    answer: ClassVar[type[Decisions]] = Decisions
    family: ClassVar[str] = "clef"
    # The cards don't say how many pixels a megapixel has. By the larger reading, nothing is refused
    # that the service accepts.
    image_limit: ClassVar[AttachmentLimit] = evolve(StateTask.image_limit, max_pixels=16 * 2**20)
    # Source: README of langchain-cloudflare: the validator answers 422 to options.
    takes_options: ClassVar[bool] = False

    state: State = nested(_parse_state, kind="JSON", kw_only=False)
    """What to decide about: text, an object or a list. The service truncates long text."""

    questions: Mapping[str, Question | Mapping[str, Any]] = mapping(
        _parse_question, names=r"[A-Za-z0-9_.-]{1,100}", at_least=1, at_most=64, kw_only=False
    )
    """From 1 to 64 questions by their ids: 1 to 100 letters, digits, `_`, `.` or `-`."""

    audio: Sequence[Attachment] | None = many(parse_attachment, at_most=4, default=None)
    """Up to 4 sounds, in the forms of *images*; each up to 8 MiB and 300 seconds (clef-omni)."""

    videos: Sequence[Attachment] | None = many(parse_attachment, at_most=2, default=None)
    """Up to 2 videos, in the forms of *images*; each up to 16 MiB and 60 seconds, and sounds and
    videos together up to 16 MiB (clef-omni)."""

    def payload(self) -> dict[str, Any]:
        """Give the JSON body of the request, except for the model. Reads the files among it."""
        body = StateTask.payload(self)
        total = 0
        for name, sources, limit in (
            ("audio", self.audio, _AUDIO),
            ("videos", self.videos, _VIDEO),
        ):
            if sources is not None:
                body[name], size = encode_attachments(name, sources, limit)
                total += size
        _check_total("audio and videos", total, _CLIPS_TOTAL)
        return body

    def payload_for(self, model: str) -> dict[str, Any]:
        """Give the JSON body of the request for *model*."""
        if (self.audio or self.videos) and model.startswith("@cf/") and "omni" not in model:
            raise InputError(
                "audio and videos must not be set except for @cf/cloudflare/clef-omni, "
                f"got {format_value(model)}"
            )
        return StateTask.payload_for(self, model)

    def reads_files(self) -> bool:
        """Tell whether building the request reads or encodes media."""
        return bool(self.images or self.audio or self.videos)
