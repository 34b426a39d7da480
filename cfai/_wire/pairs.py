"""Joins the characters that a service split over two events of a stream.

A service in JavaScript counts UTF-16 code units, so the edge of a token can split an emoji into the
halves of a surrogate pair. Each half is valid JSON as an escape, and no text by itself.
"""

from typing import Any, Final

from attrs import define, evolve, field

from cfai._types.json import replace_half_pairs
from cfai.tasks import Token

_FIRST_HALVES: Final = range(0xD800, 0xDC00)


@define(eq=False)
class PairJoiner:
    """Joins the tokens of one stream, and replaces halves that stay alone by U+FFFD.

    The first half is held back until its text, reasoning or tool call goes on, or until the end.
    """

    _held: dict[Any, str] = field(factory=dict, init=False)

    def join(self, token: Token) -> Token | None:
        """The token with whole characters; `None` if it only had the first half of one."""
        joined = evolve(
            token,
            text=self._join("text", token.text),
            reasoning=self._join("reasoning", token.reasoning),
            tool_calls=tuple(
                evolve(
                    delta,
                    id=_replace_halves(delta.id),
                    name=_replace_halves(delta.name),
                    arguments=self._join(delta.index, delta.arguments),
                )
                for delta in token.tool_calls
            ),
            finish_reason=_replace_halves(token.finish_reason),
        )
        if joined.finish_reason:
            joined.text += self._release("text")
            joined.reasoning += self._release("reasoning")
        is_empty = not (joined.text or joined.reasoning or joined.tool_calls)
        return None if is_empty and not (joined.finish_reason or joined.usage) else joined

    def finish(self) -> Token | None:
        """What is left at the end of the stream; `None` if there is nothing."""
        text, reasoning = self._release("text"), self._release("reasoning")
        return Token(text, reasoning) if text or reasoning else None

    def _join(self, channel: Any, piece: str) -> str:
        if not piece:
            return piece
        text = self._held.pop(channel, "") + piece
        if ord(text[-1]) in _FIRST_HALVES:
            self._held[channel], text = text[-1], text[:-1]
        return replace_half_pairs(text)

    def _release(self, channel: Any) -> str:
        return replace_half_pairs(self._held.pop(channel, ""))


def _replace_halves(text: str | None) -> str | None:
    return text and replace_half_pairs(text)
