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

_ESCAPED: Final = re.compile("[\udc80-\udcff]")

_LEAST_KNOWN: Final = 0.9
"""The share of the letters that must be in one alphabet: names have foreign ones."""


def choose_latin(sample: bytes) -> str | None:
    """The encoding in which a text is in one language, by the letters that are not in ASCII.

    If several fit, the first of Western, Central European, Turkish and Baltic is chosen: in these,
    the same letters mostly are the same bytes. `None` if none fits, or most letters are not Latin.
    """
    high = bytes(byte for byte in sample if byte >= 0x80)
    if not high or len(_PLAIN.findall(sample)) < 2 * len(high):
        return None
    decoded = sample.decode(errors="surrogateescape")
    wrong = len(_ESCAPED.findall(decoded))
    if wrong < len(decoded) - sum(map(str.isascii, decoded)) - wrong:
        return None  # It is UTF-8 with an error.
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


def guess_utf16(sample: bytes, name: str) -> str:
    """UTF-16 of Western text has a zero in every other byte."""
    if b"\0" not in sample[0::2] and sample[1::2].count(0) > len(sample) / 4:
        return "utf-16-le"
    if b"\0" not in sample[1::2] and sample[0::2].count(0) > len(sample) / 4:
        return "utf-16-be"
    raise InputError(f"{name} is not a text file; choose what it is with --format or --encoding")


def guess_encoding(sample: bytes, name: str) -> str:
    """Guess the encoding of a text that is not UTF-8."""
    encoding = _find_encoding(sample)
    if encoding is None:
        raise InputError(f"{name} has no known encoding; name it with --encoding")
    return encoding


def _find_encoding(sample: bytes) -> str | None:
    latin = choose_latin(sample)
    if latin is not None:
        return latin
    try:
        from charset_normalizer import from_bytes
    except ImportError as exc:
        raise MissingExtra("cli", needed_for="detecting an encoding") from exc
    best = from_bytes(sample).best()
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
            guess = None if _CONTROLS.search(data) else _find_encoding(data)
        text = None if guess is None else data.decode(guess)
        if text is not None and not _CONTROLS.search(text.encode()):
            return DecodedText(text, guess)
    return None
