"""The methods of `WorkersAI` for models whose answers are typed: decisions and extractions."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from cfai.settings import Options
from cfai.tasks import Answer, Task

if TYPE_CHECKING:
    from cfai.tasks.attachments import Attachment
    from cfai.tasks.classes import Decided, Extracted

A = TypeVar("A", bound=Answer)
T = TypeVar("T")


class _Runner(Protocol):
    """What these methods need of `WorkersAI`."""

    def run(
        self,
        model: str,
        task: Task[A],
        *,
        stream: Literal[False],
        options: Options | None = None,
    ) -> Awaitable[A]:
        """Run *model* on *task*."""


class TypedRuns:
    """Runs that answer with an instance of the caller's class."""

    async def decide(
        self: _Runner,
        model: str,
        state: str | Mapping[str, Any] | Sequence[Any],
        *,
        into: type[T],
        images: Sequence[Attachment] | None = None,
        audio: Sequence[Attachment] | None = None,
        videos: Sequence[Attachment] | None = None,
        options: Options | None = None,
    ) -> Decided[T]:
        """Decide the fields of a class from *state* (the Clef models).

        Each field is a question: `bool` and `float` with a `Noul` a yes/no question, which is
        true from a probability of 0.5; a `Literal` or an `Enum` a choice; an `IntEnum` a score
        from its lowest to its highest member. The first text in `Annotated`, the `description` in
        the metadata, or the docstring of the class is the instructions; without them, the name.

        ```python
        @dataclass
        class Ticket:
            refund: Annotated[bool, "Does the customer want money back?"]
            team: Literal["billing", "support"]
            anger: Annotated[float, Score("How angry is the customer?", ["calm", "furious"])]

        ticket = await ai.decide("@cf/cloudflare/clef", mail, into=Ticket)
        print(ticket.value.team, ticket.decisions.choice("team").probabilities)
        ```

        Args:
            model: The model's name, such as `@cf/cloudflare/clef`.
            state: What to decide about: text, an object or a list.
            into: An attrs class, a dataclass, a TypedDict or a named tuple of 1 to 64 fields.
            images: Up to 4 images, as in `Decide`.
            audio: Up to 4 sounds, as in `Decide` (clef-omni).
            videos: Up to 2 videos, as in `Decide` (clef-omni).
            options: Options for this call only.

        Raises:
            InputError: A field is no question, or the media are invalid. Nothing was sent.
            ParseError: An answer is missing or no value of its field; the error holds the
                `Decisions`.
            StatusError: An error response.

        Source: the model card of @cf/cloudflare/clef.
        """
        from cfai.tasks import Decide
        from cfai.tasks.classes import Decided, questions_of, read_decided

        deciders = questions_of(into)
        questions = {name: decider.question for name, decider in deciders.items()}
        task = Decide(state, questions, images=images, audio=audio, videos=videos)
        decisions = await self.run(model, task, stream=False, options=options)
        return Decided(read_decided(into, deciders, decisions), decisions)

    async def extract(
        self: _Runner,
        model: str,
        text: str,
        *,
        into: type[T],
        images: Sequence[Attachment] | None = None,
        reference_date: date | str | None = None,
        options: Options | None = None,
    ) -> Extracted[T]:
        """Extract the fields of a class from *text* (the Clairic models).

        A field is `str`, `int`, `float`, `Decimal`, `date`, `time`, `datetime`, `timedelta`, or a
        list of texts, numbers or dates; with `| None`, it is `None` if the text does not determine
        it. The instructions are found as by `decide`. A field of `Extract` inside `Annotated`
        replaces the one that the type would give.

        ```python
        @dataclass
        class Invoice:
            number: str
            total: Annotated[float, NumberField("With shipping", unit="USD", decimals=2)]
            due: date | None

        invoice = await ai.extract("@cf/cloudflare/clairic", mail, into=Invoice)
        print(invoice.value.total, invoice.extraction["total"].span)
        ```

        The facts about Clairic are compiled and not official; see `Extract`.

        Args:
            model: The model's name, such as `@cf/cloudflare/clairic`.
            text: The text. It may be empty only if there are images.
            into: An attrs class, a dataclass, a TypedDict or a named tuple of 1 to 100 fields.
            images: Up to 4 images, as in `Extract`.
            reference_date: The date that "tomorrow" and the like refer to.
            options: Options for this call only.

        Raises:
            InputError: A field can't be extracted, or the media are invalid. Nothing was sent.
            ParseError: An answer is missing, null or no value of its field; the error holds the
                `Extraction`.
            StatusError: An error response.
        """
        from cfai.tasks import Extract
        from cfai.tasks.classes import Extracted, extractors_of, read_extracted

        extractors = extractors_of(into)
        fields = {name: extractor.request for name, extractor in extractors.items()}
        task = Extract(text, fields, images=images, reference_date=reference_date)
        extraction = await self.run(model, task, stream=False, options=options)
        return Extracted(read_extracted(into, extractors, extraction), extraction)
