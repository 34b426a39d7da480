"""A conversation with a model: what was said so far, and how an answer is shown while it comes."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from cfai.cli import notices, output
from cfai.tasks import Text, TextGeneration, Token

if TYPE_CHECKING:
    from cfai import WorkersAI


class Show(Protocol):
    """Shows an answer while it comes."""

    def token(self, token: Token) -> None:
        """Show what came."""

    def end(self, answer: Text, *, whole: bool) -> None:
        """Show that nothing more comes; *whole* is whether that was the end."""


class Talk:
    """Goes on from turn to turn. What has arrived of an answer is kept, also when it is cut."""

    def __init__(
        self, model: str, *, instruction: str | None, options: Mapping[str, Any], show: Show
    ) -> None:
        self.model = model
        self._options = options
        self._show = show
        from cfai.conversation import Conversation

        begun = Conversation()
        self._said = begun if instruction is None else begun.system(instruction)

    async def say(self, ai: "WorkersAI", said: str) -> None:
        """Say something, and show the answer.

        Raises:
            CfaiError: There is none, or not the whole of it.
        """
        asked = self._said.user(said)
        stream = ai.stream(self.model, TextGeneration(asked, **self._options))
        whole = False
        try:
            async with stream as tokens:
                async for token in tokens:
                    self._show.token(token)
            whole = True
        finally:
            answer = stream.answer
            if answer.text:
                self._said = asked.assistant(answer.text)
            self._show.end(answer, whole=whole)


class AsText:
    """The text as it comes, and a line's end behind it."""

    def token(self, token: Token) -> None:
        """Write the text that the token adds."""
        if token.text:
            output.say(token.text)

    def end(self, answer: Text, *, whole: bool) -> None:
        """Write the line's end, where the text has none."""
        if answer.text and not answer.text.endswith("\n"):
            output.say("\n")
        if whole and answer.finish_reason == "length":
            notices.note("(cut at its longest; --max-tokens allows more)")


class AsJson:
    """A line of JSON for each token, and one for the whole answer; none for a part of it."""

    def token(self, token: Token) -> None:
        """Write the line of a token."""
        added = {"token": token.text}
        if token.reasoning:
            added["reasoning"] = token.reasoning
        output.say(output.json_line(added))

    def end(self, answer: Text, *, whole: bool) -> None:
        """Write the line of the answer."""
        if whole:
            output.say(output.json_line({"answer": answer.to_dict()}))
