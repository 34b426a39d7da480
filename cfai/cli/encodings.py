"""Which encoding a text has that is not UTF-8, and texts in any encoding.

The Windows encodings for Western Europe, Central Europe, Turkish and the Baltic languages differ
only in which letters some bytes are, so that a text has sense in each of them, but not in a
language.
"""

import codecs
import re
from contextlib import suppress
from typing import Final, NamedTuple

from cfai.errors import InputError, MissingExtra

_ALPHABETS: Final = {
    "cp1252": (
        "àâæçéèêëîïôœùûüÿ",  # French
        "áéíñóúüªº",  # Spanish
        "àáâãçéêíóôõúüªº",  # Portuguese
        "äöüßé",  # German
        "åäöéàü",  # Swedish, Finnish
        "æøåéèêòôóâü",  # Danish, Norwegian
        "àáèéìíîòóùú",  # Italian
        "äáèéêëíïóöüú",  # Dutch
        "áðéíóúýþæö",  # Icelandic
        "àçèéíïòóúü·",  # Catalan
    ),
    "cp1250": (
        "ąćęłńóśźż",  # Polish
        "áčďéěíňóřšťúůýž",  # Czech
        "áäčďéíĺľňóôŕšťúýž",  # Slovak
        "áéíóöőúüű",  # Hungarian
        "čćđšž",  # Croatian, Slovenian
        "ăâîşţ",  # Romanian
    ),
    "cp1254": ("çğıöşüâîûİ",),  # Turkish
    "cp1257": (
        "ąčęėįšųūž",  # Lithuanian
        "āčēģīķļņšūž",  # Latvian
        "äõöüšž",  # Estonian
    ),
}
"""The letters of languages that are not in ASCII, by the encoding of their files."""

_SIGNS: Final = re.compile(r"[^\W\d_]|[\u00b2\u00b3\u00b9\u00bf\u00a3\u00a5\u00af\u00b1\u00be]")
"""Letters, and the signs that letters of other encodings become."""

BOMS: Final = {
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
"""The encodings of byte order marks."""

_CONTROLS: Final = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f\x7f]")
"""Characters that texts do not have, unlike those for lines, tabs, pages and colours."""

_PLAIN: Final = re.compile(rb"[A-Za-z]")

_IN_WORDS: Final = re.compile(
    rb"(?<=[A-Za-z\x80-\xff])[\x80-\xff]|[\x80-\xff](?=[A-Za-z\x80-\xff])"
)
"""Bytes that are not ASCII beside letters. Alone, they are signs: `\xa35` is five pounds."""

_OUTSIDE_ASCII: Final = re.compile(rb"[\x80-\xff]+")

_RARE_SIGNS: Final = re.compile(rb"[\x81-\x84\x86-\x89\x8b\x8d\x8f\x90\x98\x9b\x9d\x9f]")
"""Signs of cp1252 that texts hardly have, which begin characters in Shift-JIS."""

_NO_FILES: Final = [
    *("utf_7", "utf_16", "utf_16_le", "utf_16_be", "utf_32", "utf_32_le", "utf_32_be"),
    *("cp037", "cp273", "cp424", "cp500", "cp875", "cp1006", "cp1026", "cp1140"),
]
"""Encodings of other bytes than those of a text without a mark and zeros, and of mainframes."""

_ESCAPED: Final = re.compile("[\udc80-\udcff]")

_LEAST_KNOWN: Final = 0.9
"""The share of the letters that must be in one alphabet: names have foreign ones."""


def choose_latin(sample: bytes) -> str | None:
    """The encoding in which a text is in one language, by the letters that are not in ASCII.

    If several fit, the first of Western, Central European, Turkish and Baltic is chosen: in these,
    the same letters mostly are the same bytes. `None` if none fits, or most letters are not Latin.
    """
    high = b"".join(_IN_WORDS.findall(sample))
    if not high or len(_PLAIN.findall(sample)) < 2 * len(high):
        return None
    best: tuple[float, str | None] = (_LEAST_KNOWN, None)
    for encoding, alphabets in _ALPHABETS.items():
        try:
            text = codecs.decode(high, encoding)
        except UnicodeDecodeError:
            continue
        letters = _SIGNS.findall(text.replace("İ", "ı").lower())
        for alphabet in alphabets if letters else ():
            share = sum(map(alphabet.__contains__, letters)) / len(letters)
            if share > best[0] or (best[1] is None and share == best[0]):
                best = (share, encoding)
    return best[1]


def is_damaged_utf8(sample: bytes) -> bool:
    """Whether most characters that are not ASCII are UTF-8.

    In another encoding, all of these would be wrong, so none is guessed.
    """
    decoded = sample.decode(errors="surrogateescape")
    wrong = len(_ESCAPED.findall(decoded))
    return wrong < len(decoded) - sum(map(str.isascii, decoded)) - wrong


def _has_few_signs(sample: bytes) -> bool:
    """Whether what is not ASCII are single signs and letters, as in most short Western texts.

    Words of other scripts and characters of several bytes are longer, and other signs are rare.
    """
    longest = max(map(len, _OUTSIDE_ASCII.findall(sample)), default=0)
    return longest <= (2 if _PLAIN.search(sample) else 1) and not _RARE_SIGNS.search(sample)


def guess_utf16(sample: bytes, name: str) -> str:
    """UTF-16 of Western text has a zero in every other byte."""
    if b"\0" not in sample[0::2] and sample[1::2].count(0) > len(sample) / 4:
        return "utf-16-le"
    if b"\0" not in sample[1::2] and sample[0::2].count(0) > len(sample) / 4:
        return "utf-16-be"
    raise InputError(f"{name} is not a text file; choose what it is with --format or --encoding")


def guess_encoding(sample: bytes, name: str) -> str:
    """Guess the encoding of a text that is not UTF-8, nor damaged UTF-8."""
    encoding = _find_encoding(sample)
    if encoding is None:
        raise InputError(f"{name} has no known encoding; name it with --encoding")
    return encoding


def _find_encoding(sample: bytes) -> str | None:
    latin = choose_latin(sample)
    if latin is not None:
        return latin
    if _has_few_signs(sample):
        return "cp1252"
    try:
        from charset_normalizer import from_bytes
    except ImportError as exc:
        raise MissingExtra("cli", needed_for="detecting an encoding") from exc
    best = from_bytes(sample, cp_exclusion=_NO_FILES).best()
    return None if best is None else str(best.encoding)


class DecodedText(NamedTuple):
    """A text, and its encoding if that was guessed."""

    text: str
    guess: str | None = None


def decode_any(data: bytes) -> DecodedText | None:
    """Decode a text in any encoding; `None` for other data, such as a PDF or a sound."""
    if data.startswith(b"%PDF"):
        return None
    bom = next((bom for bom in BOMS if data.startswith(bom)), None)
    with suppress(UnicodeDecodeError):
        if bom is not None or b"\0" not in data:
            return DecodedText(data.decode("utf-8" if bom is None else BOMS[bom]))
    with suppress(UnicodeDecodeError, InputError):
        if b"\0" in data:
            guess: str | None = guess_utf16(data, "it")
        else:
            is_other = _CONTROLS.search(data) or is_damaged_utf8(data)
            guess = None if is_other else _find_encoding(data)
        text = None if guess is None else data.decode(guess)
        if text is not None and not _CONTROLS.search(text.encode()):
            return DecodedText(text, guess)
    return None


def is_text(data: bytes) -> bool:
    """Whether data is a text in any encoding, perhaps cut or with an error."""
    return decode_any(data) is not None or (not _CONTROLS.search(data) and is_damaged_utf8(data))
