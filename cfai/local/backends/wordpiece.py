"""BERT's uncased WordPiece tokenizer, which MiniLM uses. Pure Python."""

import re
import unicodedata
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path

VOCABULARY = Path(__file__).parent.parent / "data" / "vocab.txt"

_MAX_WORD_LENGTH = 100
"""In characters; a longer word is unknown, as in BERT."""

_RUN = re.compile(r"[^\t\n\r \xa0\u1680\u2000-\u200a\u202f\u205f\u3000]{1,1024}")
"""Characters between those that `_clean_character` replaces by a space. A longer run is cut: in
languages with spaces, it is no word. Its normal form takes time that grows with its square."""

# The blocks that BERT treats as CJK: each character is a separate word.
_CJK = re.compile(
    r"[\u3400-\u4DBF\u4E00-\u9FFF\uF900-\uFAFF"
    r"\U00020000-\U0002A6DF\U0002A700-\U0002CEAF\U0002F800-\U0002FA1F]"
)


@cache
def vocabulary() -> dict[str, int]:
    """Return the id of each token; a token that continues a word starts with `##`."""
    lines = VOCABULARY.read_text("utf-8").split("\n")
    return {token: number for number, token in enumerate(lines[:-1])}


def encode(text: str, *, max_tokens: int = 512) -> list[int]:
    """Return the token ids of *text*, from `[CLS]` to `[SEP]`, truncated to *max_tokens*.

    Of a text that has hardly any tokens, such as one of spaces, only the beginning is read.
    """
    tokens = vocabulary()
    ids = [tokens["[CLS]"]]
    for word in split_words(text[: max_tokens * _MAX_WORD_LENGTH]):
        ids.extend(_encode_word(word))
        if len(ids) >= max_tokens:
            break
    return [*ids[: max_tokens - 1], tokens["[SEP]"]]


def count_tokens(text: str) -> int:
    """Count the tokens of *text*, without `[CLS]` and `[SEP]`."""
    return sum(len(_encode_word(word)) for word in split_words(text))


def split_words(text: str) -> Iterator[str]:
    """Yield the words, lowercase and without accents; each punctuation mark is a word."""
    # Piece by piece: the caller may need only the first words of a text of many megabytes.
    chunks = (
        chunk
        for run in _RUN.finditer(text)
        for chunk in "".join(map(_clean_character, run[0])).split()
    )
    for chunk in chunks:
        decomposed = unicodedata.normalize("NFD", chunk.lower())
        plain = "".join(c for c in decomposed if unicodedata.category(c) != "Mn")
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
def _encode_word(word: str) -> tuple[int, ...]:
    """Split a word into the longest tokens of the vocabulary, from the left."""
    tokens = vocabulary()
    if len(word) > _MAX_WORD_LENGTH:
        return (tokens["[UNK]"],)
    ids: list[int] = []
    start = 0
    while start < len(word):
        prefix = "##" if start else ""
        for end in range(len(word), start, -1):
            number = tokens.get(prefix + word[start:end])
            if number is not None:
                ids.append(number)
                start = end
                break
        else:
            return (tokens["[UNK]"],)
    return tuple(ids)


@lru_cache(maxsize=10_000)
def _clean_character(character: str) -> str:
    """Return what replaces a character before the text is split at whitespace."""
    if character in "\t\n\r" or unicodedata.category(character) == "Zs":
        return " "
    if character == "\ufffd" or unicodedata.category(character).startswith("C"):
        return ""
    if _CJK.match(character):
        return f" {character} "
    return character


@lru_cache(maxsize=10_000)
def _is_punctuation(character: str) -> bool:
    # BERT includes the ASCII symbols ($, +, <, ...), which Unicode puts in other categories.
    if character.isascii():
        return character.isprintable() and not character.isalnum() and character != " "
    return unicodedata.category(character).startswith("P")
