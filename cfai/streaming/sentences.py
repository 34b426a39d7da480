"""`SentenceCutter`: cuts a text that arrives in pieces at the ends of its sentences."""

import re
from typing import Final

from attrs import define, field

_END: Final = re.compile(
    r"(?P<mark>[.!?…]+|[。！？]+)(?P<closing>[\"'”’»)\]*_]*)(?P<space>\s+)|[。！？]+|\n\s*"
)
"""A mark with white space after it, a mark of Chinese or Japanese, or the end of a line."""

_ABBREVIATIONS: Final = frozenset(
    re.findall(
        r"\S+",
        "al approx bzw ca cf co corp dr e.g etc fig i.e inc jr ltd mr mrs ms nr prof resp sr st"
        " vgl vs z.b",
    )
)
"""Words in lower case that a full stop after them does not make the end of a sentence."""

_WORD: Final = re.compile(r"[^\s(\[\"'“‘«]*$")


@define
class SentenceCutter:
    """Cuts a text at the ends of its sentences. Joined, the parts are the text.

    A sentence is known to be over only once something follows its mark.
    """

    _rest: str = field(default="", init=False)

    def feed(self, text: str) -> list[str]:
        """Add a piece of the text; returns the sentences that are complete now."""
        self._rest += text
        sentences = []
        start = 0
        for match in _END.finditer(self._rest):
            # More white space may follow, which belongs to this sentence.
            if match.end() == len(self._rest) and match[0][-1:].isspace():
                break
            if self._ends_sentence(start, match):
                sentences.append(self._rest[start : match.end()])
                start = match.end()
        self._rest = self._rest[start:]
        return sentences

    def _ends_sentence(self, start: int, match: re.Match[str]) -> bool:
        before = self._rest[start : match.start()]
        if not before.strip():
            return False
        if match["mark"] != "." or match["closing"]:
            return True
        word = _WORD.search(before)
        last = word[0].lower() if word is not None else ""
        # An initial ("J. S. Bach"), an ordinal or the number of an item ("1. Milk").
        return not (last in _ABBREVIATIONS or last.isdigit() or (len(last) == 1 and last != "i"))

    def finish(self) -> str:
        """What is left at the end of the text."""
        rest, self._rest = self._rest, ""
        return rest
