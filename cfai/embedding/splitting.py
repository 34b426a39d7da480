"""Where a long text is cut into pieces that a model reads as a whole, and how many tokens it has.

Only the model can count tokens. The estimate here errs on the side of too many.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from string import ascii_lowercase
from typing import Any, Final, Literal, TypeAlias

from attrs import frozen

from cfai._types.excerpts import format_count, format_value
from cfai.errors import InputError

LongTexts = Literal["warn", "fail", "split"]
"""What a job does with a text that is longer than the model reads."""

Pool = Literal["mean"]
"""How the vectors of a text's pieces are combined."""

Split: TypeAlias = Callable[[str], Iterable[str | tuple[int, int]]]
"""A function that cuts a text. It returns the pieces, or where each begins and ends; also a text
that is short enough is one piece."""


@frozen
class Piece:
    """A part of a text that was cut with `long="split"`."""

    place: int
    """The place of its text in the source, from 0."""

    number: int
    """Its number in the text, from 0."""

    start: int
    """Where it begins, in characters: `text[start:end]` is the piece."""

    end: int
    """Where it ends, in characters."""

    is_last: bool
    """Whether it is the last one of its text."""


# Tokens

_MORE_LATIN: Final = re.compile(r"[\u0100-\u024F\u0300-\u036F\u1E00-\u1EFF]")
"""Latin letters and accents that are not in Latin-1."""
_HANGUL: Final = re.compile(r"[\u1100-\u11FF\uAC00-\uD7FF]")
_RARE: Final = re.compile(r"[\u0530-\u058F\u0800-\u10FF\u1200-\u1DFF\uA000-\uABFF]")
"""Scripts of India, South East Asia, the Caucasus and others that a vocabulary has little of."""
_ASTRAL: Final = re.compile(r"[\U00010000-\U0010FFFF]")
"""Emoji, and rare scripts: four bytes of UTF-8."""

_BLOCK: Final = 512
"""Characters whose language is judged together."""


def _characters(pattern: str) -> bytes:
    """A table for `bytes.translate`: 1 for the characters of Latin-1 that match, 0 for others."""
    return bytes(re.match(pattern, chr(code)) is not None for code in range(256))


_LETTERS: Final = _characters(r"[A-Za-z\u00C0-\u00FF]")
_CAPITALS: Final = _characters(r"[A-Z]")
_DIGITS: Final = _characters(r"[0-9]")

_ASCII: Final = bytes(range(128))
_WHITE_SPACE: Final = b" \t\n\r\v\f\xa0"
_NOT_LETTERS: Final = bytes(set(range(256)) - set(ascii_lowercase.encode()))
_NOT_VOWELS: Final = bytes(set(range(256)) - set(b"aouhy"))
_NOT_JKZ: Final = bytes(set(range(256)) - set(b"jkz"))


def _mark(characters: bytes, table: bytes) -> int:
    """A number with a byte for each character: 1 if *table* has a 1 for it.

    Shifted by 8 bits, it marks the characters after these. All words of a block are counted at
    once with such numbers, in a tenth of the time that a loop over them takes.
    """
    return int.from_bytes(characters.translate(table), "little")


def _encode(block: str) -> bytes:
    """A byte for each character: `?` for those that are neither Latin letters nor ASCII."""
    latin = block if block.isascii() else _MORE_LATIN.sub("\u00e0", block)
    return latin.encode("latin-1", "replace")


def _is_english(characters: bytes) -> bool:
    """Whether words are English, by letters that are frequent or rare in it.

    The weights were fitted to texts and lists of words in 60 languages, also without their accents:
    95 % of the English blocks are found, and 3 % of those without accents are taken for English.
    """
    lower = characters.lower()
    count, letters = lower.count, len(lower.translate(None, _NOT_LETTERS))
    if 100 * len(lower.translate(None, _ASCII)) > letters or 10 * count(b"?") > letters:
        return False  # With accents, or between words in another script.
    score = 16 * count(b"ck") + 8 * count(b"th") + 8 * count(b"ing") + 4 * count(b"ed")
    score += 3 * count(b"sh") - 8 * count(b"wy") - 8 * count(b"yd") + letters // 6
    score -= len(lower.translate(None, _NOT_VOWELS)) + 3 * len(lower.translate(None, _NOT_JKZ))
    return score > 0


@frozen
class TokenEstimate:
    """About how many tokens a text has, rather too many.

    Fitted to the tokenizers of BERT, whose vocabulary the English bge models have, and of Qwen.
    """

    multilingual: bool
    """Whether the vocabulary has words of many languages; otherwise it is BERT's."""

    def count(self, text: str) -> float:
        """About how many tokens *text* has, without those at its beginning and end."""
        return sum(tokens for _, tokens in self.count_blocks(text))

    def count_blocks(self, text: str) -> Iterator[tuple[int, float]]:
        """Where each block of *text* ends, and about how many tokens it has."""
        for start in range(0, len(text), _BLOCK):
            block = text[start : start + _BLOCK]
            yield start + len(block), self._count_block(block)

    def reach(self, text: str, start: int, tokens: float) -> int:
        """Where the first *tokens* after *start* end: at least one character after it."""
        for position in range(start, len(text), _BLOCK):
            block = text[position : position + _BLOCK]
            more = self._count_block(block)
            if more > tokens:
                is_english = _is_english(_encode(block))
                while len(block) > 1:
                    half = block[: len(block) // 2]
                    more = self._count_block(half, is_english)
                    if more > tokens:
                        block = half
                    else:
                        position += len(half)  # noqa: PLW2901  # the loop ends here
                        block = block[len(half) :]
                        tokens -= more
                return max(start + 1, position)
            tokens -= more
        return len(text)

    def _count_block(self, block: str, is_english: bool | None = None) -> float:
        """The tokens of a text that is in one language, which may be known."""
        characters = _encode(block)
        letters, capitals = _mark(characters, _LETTERS), _mark(characters, _CAPITALS)
        after_letter = letters & (letters << 8)
        # As in `getElementById`.
        inner_starts = capitals & after_letter & ~(capitals << 8)
        continuing = after_letter ^ inner_starts
        count = letters.bit_count()
        words = count - continuing.bit_count()
        if _is_english(characters) if is_english is None else is_english:
            # 0.4 tokens for each letter after the sixth: for each run of six that continue a word.
            three = continuing & (continuing << 8) & (continuing << 16)
            tokens = words + 0.4 * (three & (three << 24)).bit_count()
            if self.multilingual:
                tokens += 0.2 * (continuing & capitals).bit_count()
        else:
            # 0.3 tokens for each word and 0.45 for each letter, but one for a single letter.
            longer = (continuing & ~(continuing << 8)).bit_count()
            tokens = words + 0.45 * continuing.bit_count() - 0.25 * longer
        tokens += 0.5 * inner_starts.bit_count()
        tokens += len(characters.translate(None, _WHITE_SPACE)) - count
        if digits := _mark(characters, _DIGITS):
            digit_count, numbers = digits.bit_count(), (digits & ~(digits << 8)).bit_count()
            # Many tokenizers have a token for each digit, and one for the space before.
            tokens += numbers if self.multilingual else 0.4 * (numbers - digit_count)
        return tokens + self._count_more(block)

    def _count_more(self, block: str) -> float:
        """The tokens of characters that have more than one, or that are white space."""
        more = float(block.count("\n")) if self.multilingual else 0.0
        if block.isascii():
            return more
        if not self.multilingual:
            return 2 * len(_HANGUL.findall(block))  # Each is decomposed into up to three letters.
        return more + 0.6 * len(_RARE.findall(block)) + 2 * len(_ASTRAL.findall(block))


_SPECIAL_TOKENS: Final = 2
"""At the beginning and the end of each text."""

_MOST_TOKENS: Final = 3
"""Of one character, by the estimate."""


@frozen
class Window:
    """How many tokens a model reads of a text."""

    tokens: int
    """With those at the beginning and the end."""
    estimate: TokenEstimate

    @property
    def safe_length(self) -> int:
        """Up to how many characters any text is short enough."""
        return (self.tokens - _SPECIAL_TOKENS) // _MOST_TOKENS

    def find_excess(self, text: str) -> int | None:
        """About how many tokens *text* has, if these are probably too many; otherwise `None`.

        It reads little more of a long text than the model does.
        """
        limit = self.tokens - _SPECIAL_TOKENS
        # A token has a character of ASCII at least: most texts need no estimate.
        if len(text) * (1 if text.isascii() else _MOST_TOKENS) <= limit:
            return None
        tokens = 0.0
        for read, block in self.estimate.count_blocks(text):
            tokens += block
            if tokens > limit:
                total = round(tokens * len(text) / read) + _SPECIAL_TOKENS
                return max(self.tokens + 1, total)
        return None


# Boundaries

# Each unit ends before the white space after it.
_PARAGRAPH: Final = re.compile(r"(?<!\s)(?=[^\S\n]*\n[^\S\n]*\n)")
_SENTENCE: Final = re.compile(
    r"[.!?\u2026]+(?:\s?\u00BB)?[\"'\u201D\u2019)\]]*(?=\s)"  # Latin, Greek, Cyrillic, Hebrew
    r"|[\u3002\uFF01\uFF1F\uFF61\uFF0E]+[\u300D\u300F\u201D\u2019\uFF09\u3011\u300B]*"  # CJK
    # Armenian, Arabic, Devanagari, Tibetan, Burmese, Ethiopic, Khmer
    r"|[\u0589\u061F\u06D4\u0964\u0965\u0F0D\u0F0E\u104A\u104B\u1362\u1367\u17D4\u17D5]+"
)
_LINE: Final = re.compile(r"(?<!\s)(?=[^\S\r\n]*[\r\n])")
_WORD: Final = re.compile(r"(?<!\s)(?=\s)")
_CLAUSE: Final = re.compile(r"[\u3001\uFF0C\uFF1B\uFF1A\u060C\u061B,;:]+")
"""Of a text without spaces."""

_ABBREVIATION: Final = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|vs|No|Nr|Fig|Abb|Eq|Vol|pp?|cf|ca|approx|bzw|usw|Mme|Sra?)"
    r"|\b[^\W\d_](?:\.\s?[^\W\d_])*)\Z"
)
"""What is before a period that ends no sentence: a title, an initial, `e.g`."""

_MOST_JOINED: Final = 64
"""Characters of one that is shown as a whole. Longer ones are no real text."""


def _is_sentence_end(text: str, match: "re.Match[str]") -> bool:
    if match[0] != ".":
        return True
    following = text[match.end() : match.end() + 8].lstrip()
    if following[:1].islower():
        return False
    before = text[max(0, match.start() - 12) : match.start()]
    return _ABBREVIATION.search(before) is None


def _find_ends(text: str, pattern: "re.Pattern[str]", first: int, last: int) -> list[int]:
    """Where units end, from *first* to *last* (included)."""
    # One character more: a unit ends before it.
    matches = pattern.finditer(text, first, min(last + 8, len(text)))
    return [
        match.end()
        for match in matches
        if first <= match.end() <= last
        and (pattern is not _SENTENCE or _is_sentence_end(text, match))
    ]


def _is_joined(text: str, cut: int, start: int) -> bool:
    """Whether the characters around *cut* are shown as one (Unicode Annex 29, without its tables).

    A cut there would part a letter from its accent, or an emoji in two. No character is shown as
    one with those before *start*.
    """
    before, after = text[cut - 1], text[cut]
    if after.isascii():
        return before == "\r" and after == "\n"
    if unicodedata.category(after)[0] == "M" or before == "\u200d" or after == "\u200d":
        return True
    if "\ud800" <= before <= "\udbff" and "\udc00" <= after <= "\udfff":
        return True  # The halves of one character, from a wrong decoder.
    if "\U0001f3fb" <= after <= "\U0001f3ff" or "\U000e0020" <= after <= "\U000e007f":
        return True  # The color of a skin, or the region of a flag.
    if "\u1160" <= after <= "\u11ff":
        return True  # Letters of Korean that follow others in a syllable.
    if not _is_half_flag(after):
        return False
    first = cut
    while first > start and _is_half_flag(text[first - 1]):
        first -= 1
    return (cut - first) % 2 == 1


def _is_half_flag(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position


# Pieces

_MARGIN: Final = 0.9
"""How much of the limit a piece fills at most, by the estimate."""


@frozen
class Splitter:
    """Cuts texts at paragraphs, sentences, lines, words, or else between characters.

    A piece ends with the highest of these units that ends in its second half. White space between
    pieces belongs to none of them. The time is linear in the length of the text.
    """

    max_tokens: int
    """Tokens of a piece, with those at its beginning and end; by the estimate."""
    overlap: float
    """How much of a piece the next one repeats at most, as a share of its characters."""
    estimate: TokenEstimate

    def __call__(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield where each piece begins and ends. A text that is short enough is one piece."""
        limit = (self.max_tokens - _SPECIAL_TOKENS) * _MARGIN
        if self.estimate.reach(text, 0, limit) == len(text):
            yield 0, len(text)
            return
        stop = len(text.rstrip())
        start, end = _skip_space(text, 0), 0
        while True:
            reach = self.estimate.reach(text, start, limit)
            following = _skip_space(text, end)
            if reach <= following:  # What is repeated leaves no room.
                start = following
                reach = self.estimate.reach(text, start, limit)
            if reach >= stop:
                yield start, stop
                return
            end = self._find_end(text, start, max((start + reach) // 2, following + 1), reach)
            yield start, end
            start = self._find_start(text, start, end)

    def _find_end(self, text: str, start: int, first: int, last: int) -> int:
        """The best end of the piece that begins at *start*, from *first* to *last*."""
        for pattern in (_PARAGRAPH, _SENTENCE, _LINE, _WORD, _CLAUSE):
            ends = _find_ends(text, pattern, first, last)
            if ends:
                return ends[-1]
        least = max(first, last - _MOST_JOINED)
        cuts = (cut for cut in range(last, least, -1) if not _is_joined(text, cut, start))
        end = next(cuts, last)
        while text[end - 1].isspace():
            end -= 1
        return end

    def _find_start(self, text: str, start: int, end: int) -> int:
        """Where the piece after the one from *start* to *end* begins."""
        least = max(end - int((end - start) * self.overlap), start + 1)
        for pattern in (_SENTENCE, _WORD):
            starts = [_skip_space(text, cut) for cut in _find_ends(text, pattern, least, end - 1)]
            if starts and starts[0] < end:
                return starts[0]
        cuts = range(least, min(least + _MOST_JOINED, end))
        unjoined = (cut for cut in cuts if not _is_joined(text, cut, start))
        return _skip_space(text, next(unjoined, end))


# Splitters of others


def locate_pieces(text: str, pieces: Iterable[Any]) -> list[tuple[int, int]]:
    """Find where the pieces that a function returned begin and end in *text*.

    Raises:
        InputError: There are none, they are not in the text, or not in its order.
    """
    spans: list[tuple[int, int]] = []
    start = end = 0
    for number, piece in enumerate(pieces):
        if isinstance(piece, str):
            start, end = _find_piece(text, piece, number, start, end)
        elif isinstance(piece, Sequence) and len(piece) == 2 and all(_is_integer(n) for n in piece):
            least = start
            start, end = map(int, piece)
            if not least <= start < end <= len(text):
                raise InputError(
                    f"split must return pieces in the order of the text, of at least one character,"
                    f" and up to {len(text)}; piece {number} is {(start, end)}"
                )
        else:
            raise InputError(
                "split must return pieces of the text, or tuples (start, end); piece"
                f" {number} is {format_value(piece)}"
            )
        spans.append((start, end))
    if not spans:
        raise InputError(
            "split must return at least one piece, and returned none for "
            f"{format_count(len(text), 'character')}"
        )
    return spans


def _is_integer(value: object) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool)


def _find_piece(text: str, piece: str, number: int, start: int, end: int) -> tuple[int, int]:
    """Find a piece after the one from *start* to *end*, which it may overlap."""
    if not piece:
        raise InputError(
            f"split must return pieces of at least one character; piece {number} is empty"
        )
    following = _skip_space(text, end)
    if text.startswith(piece, following):
        position = following
    else:
        position = text.find(piece, start + 1 if number else 0)
    if position < 0:
        raise InputError(
            f"split must return pieces of the text as they are in it, or tuples (start, end); piece"
            f" {number} is not in the text, or not after the one before: {format_value(piece)}"
        )
    return position, position + len(piece)


def number_pieces(spans: Iterable[tuple[int, int]], place: int) -> Iterator[Piece]:
    """Yield the pieces of the text at *place*."""
    iterator = iter(spans)
    following = next(iterator, None)
    number = 0
    while following is not None:
        (start, end), following = following, next(iterator, None)
        yield Piece(place, number, start, end, following is None)
        number += 1
