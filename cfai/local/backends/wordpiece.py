"""BERT's uncased WordPiece tokenizer: text to the numbers that MiniLM reads. Pure Python."""

import unicodedata
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path

VOCABULARY = Path(__file__).parent.parent / "data" / "vocab.txt"

_LONGEST_WORD = 100
"""In characters; a longer word is unknown, as in BERT."""

# The blocks that BERT takes for CJK: each of their characters is a word of its own.
_CJK = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


@cache
def vocabulary() -> dict[str, int]:
    """Give every piece and its number; a piece that continues a word begins with `##`."""
    lines = VOCABULARY.read_text("utf-8").split("\n")
    return {piece: number for number, piece in enumerate(lines[:-1])}


def encode(text: str, *, longest: int = 512) -> list[int]:
    """Give the numbers of *text* between `[CLS]` and `[SEP]`, cut to *longest* in all."""
    pieces = vocabulary()
    numbers = [pieces["[CLS]"]]
    for word in words(text):
        numbers.extend(_pieces(word))
        if len(numbers) >= longest:
            break
    return [*numbers[: longest - 1], pieces["[SEP]"]]


def count(text: str) -> int:
    """Count the tokens of *text*, without `[CLS]` and `[SEP]`."""
    return sum(len(_pieces(word)) for word in words(text))


def words(text: str) -> Iterator[str]:
    """Split *text* into words, lower-case and without accents; punctuation stands alone."""
    for chunk in "".join(_spaced(character) for character in text).split():
        apart = unicodedata.normalize("NFD", chunk.lower())
        plain = "".join(c for c in apart if unicodedata.category(c) != "Mn")
        start = 0
        for end, character in enumerate(plain):
            if _is_punctuation(character):
                if start < end:
                    yield plain[start:end]
                yield character
                start = end + 1
        if start < len(plain):
            yield plain[start:]


@lru_cache(maxsize=50_000)
def _pieces(word: str) -> tuple[int, ...]:
    """Split one word into the longest pieces that the vocabulary has, from the left."""
    known = vocabulary()
    if len(word) > _LONGEST_WORD:
        return (known["[UNK]"],)
    found: list[int] = []
    start = 0
    while start < len(word):
        prefix = "##" if start else ""
        for end in range(len(word), start, -1):
            number = known.get(prefix + word[start:end])
            if number is not None:
                found.append(number)
                start = end
                break
        else:
            return (known["[UNK]"],)
    return tuple(found)


@lru_cache(maxsize=10_000)
def _spaced(character: str) -> str:
    """Give what a character counts as before the text is split at whitespace."""
    if character in "\t\n\r" or unicodedata.category(character) == "Zs":
        return " "
    code = ord(character)
    if code in (0, 0xFFFD) or unicodedata.category(character).startswith("C"):
        return ""
    if any(first <= code <= last for first, last in _CJK):
        return f" {character} "
    return character


@lru_cache(maxsize=10_000)
def _is_punctuation(character: str) -> bool:
    # BERT also counts the ASCII symbols ($, +, <, ...) that Unicode has in other categories.
    if character.isascii():
        return character.isprintable() and not character.isalnum() and character != " "
    return unicodedata.category(character).startswith("P")
