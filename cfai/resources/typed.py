"""The methods of `WorkersAI` for models whose answers are typed: decisions and extractions."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from cfai.settings import Options
from cfai.tasks import Answer, Task

if TYPE_CHECKING:
    from cfai.tasks.attachments import Attachment
    from cfai.tasks.classes import Decided

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
            StatusError: The service refused.

        Source: the model card of @cf/cloudflare/clef.
        """
        from cfai.tasks import Decide
        from cfai.tasks.classes import Decided, questions_of, read_decided

        deciders = questions_of(into)
        questions = {name: decider.question for name, decider in deciders.items()}
        task = Decide(state, questions, images=images, audio=audio, videos=videos)
        decisions = await self.run(model, task, stream=False, options=options)
        return Decided(read_decided(into, deciders, decisions), decisions)
