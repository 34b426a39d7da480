"""Which encoding of one byte per character a text in Latin letters has.

The Windows encodings for Western Europe, Central Europe, Turkish and the Baltic languages differ
only in which letters some bytes are, so that a text has sense in each of them, but not in a
language.
"""

import codecs
import re
from typing import Final

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
    latin = choose_latin(sample)
    if latin is not None:
        return latin
    try:
        from charset_normalizer import from_bytes
    except ImportError as exc:
        raise MissingExtra("cli", needed_for="detecting an encoding") from exc
    best = from_bytes(sample).best()
    if best is None:
        raise InputError(f"{name} has no known encoding; name it with --encoding")
    return str(best.encoding)
