"""Word wrap of a text that is shown while it arrives, without a terminal: text in, text out."""

import re
from collections.abc import Callable, Iterator
from typing import Final

_PIECE: Final = re.compile(r"\n|[^\S\n]+|\S+")

_ITEM: Final = re.compile(r"[ \t>]*(?:[-*+•]|\d{1,3}[.)])[ \t]")
_MARKS: Final = re.compile(r"[ \t]*(?:(?:[-*+•>]|\d{1,3}[.)])[ \t]+)*")
"""What a line begins with before its text: spaces, and the marks of list items and quotations."""

_FENCE: Final = re.compile(r"[ \t]*(?:(?:[-*+>]|\d{1,3}[.)])[ \t]+)*(`{3,}|~{3,})([^`]*)")

_MAX_MARKS: Final = 200
"""The characters of a line in which its marks are looked for."""

_TAB: Final = 8

# The most important ones of "kinsoku": they end or begin with the character beside them.
_NEVER_FIRST: Final = frozenset(
    "、。，．・：；？！）］｝」』】〉》〕’”…ー々ぁぃぅぇぉっゃゅょァィゥェォッャュョ"
)
_NEVER_LAST: Final = frozenset("（［｛「『【〈《〔‘“")
_JOINER: Final = "\u200d"


class WordWrap:
    """Breaks the lines of a text between words, while the text arrives in pieces of any size.

    Every piece is shown at once: a word that grows over the margin is erased, and written on the
    next line, with the indentation of the text. A word longer than a line is left to the terminal,
    and so are code blocks and tables.

    Args:
        columns: Gives the width of the terminal; called for each line, because it can change.
        can_clear: Whether the terminal knows the sequence that clears a line to its end.
    """

    def __init__(self, columns: Callable[[], int], *, can_clear: bool = True) -> None:
        self._read_columns = columns
        self._columns = columns()
        self._can_clear = can_clear
        self._line = ""
        """The beginning of the line of the text, which may have several lines at the terminal."""
        self._fence = ""
        """What closes the code block; empty outside of one."""
        self._in_list = False
        self._column = 0
        """Where the word begins."""
        self._word = ""

    def feed(self, text: str) -> str:
        """Give what to write for the next piece of the text."""
        return "".join(map(self._feed_piece, _PIECE.findall(text)))

    def _feed_piece(self, piece: str) -> str:
        if piece == "\n":
            self._end_line()
            return piece
        if len(self._line) < _MAX_MARKS:
            self._line += piece
        if self._stays_as_it_is():
            return piece
        if piece.isspace():
            return self._add_space(piece)
        return "".join(map(self._grow_word, self._split_word(piece)))

    def _stays_as_it_is(self) -> bool:
        """Whether the line belongs to a code block or a table."""
        is_indented = self._line.startswith(("    ", "\t")) and not self._in_list
        return bool(self._fence) or is_indented or self._line.lstrip().startswith("|")

    @property
    def _limit(self) -> int:
        # After a character in the last column, terminals differ in where the cursor is.
        return self._columns - 1

    def _end_line(self) -> None:
        line, fence = self._line, _FENCE.fullmatch(self._line)
        if self._fence:
            closing = line.lstrip(" \t>").rstrip()
            if closing.startswith(self._fence) and not closing.strip(self._fence[0]):
                self._fence = ""
        else:
            self._fence = "" if fence is None else fence[1]
            if line.strip():
                is_item = bool(_ITEM.match(line))
                self._in_list = is_item or (self._in_list and line[0].isspace())
        self._line, self._word, self._column = "", "", 0
        self._columns = self._read_columns()

    def _end_word(self) -> None:
        self._column += _width(self._word)
        if self._column > self._limit:  # The terminal broke the word; maybe it is about to.
            self._column = self._column % self._columns or self._columns
        self._word = ""

    def _add_space(self, space: str) -> str:
        self._end_word()
        shown = []
        for character in space:
            width = _TAB - self._column % _TAB if character == "\t" else 1
            if self._column + width > self._limit:
                self._column = self._columns  # The end of the line takes the place of the space.
                break
            self._column += width
            shown.append(character)
        return "".join(shown)

    def _split_word(self, text: str) -> Iterator[str]:
        """Split a word between characters where a line may break, as between ideographs."""
        if text.isascii() and self._word.isascii():
            yield text
            return
        for character in text:
            if self._word and _may_break(self._word[-1], character):
                self._end_word()
            yield character

    def _grow_word(self, text: str) -> str:
        word = self._word + text
        indent = self._indent()
        if self._column + _width(word) > self._limit and self._column > indent:
            shown = f"{self._erase_word()}\n{' ' * indent}{word}"
            self._column = indent
        else:
            shown = text
        self._word = word
        return shown

    def _erase_word(self) -> str:
        width = _width(self._word)
        if not width:
            return ""
        return "\b" * width + ("\x1b[K" if self._can_clear else " " * width)

    def _indent(self) -> int:
        marks = _MARKS.match(self._line)
        indent = _width(marks[0].expandtabs(_TAB)) if marks else 0
        return indent if indent <= self._columns // 2 else 0


def _may_break(before: str, after: str) -> bool:
    if before in _NEVER_LAST or after in _NEVER_FIRST or before == _JOINER or not _width(after):
        return False
    return _width(before) == 2 or _width(after) == 2


def _width(text: str) -> int:
    """The columns that a text takes at a terminal."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
