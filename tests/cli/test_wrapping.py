"""Word wrap while a text arrives: what a terminal shows of it, at any width and cut anywhere."""

import random
from collections.abc import Iterable

import pytest

from cfai.cli.wrapping import WordWrap

from .screens import Screen

PROSE = "The quick brown fox jumps over the lazy dog, and nobody minds (so far).\n"
WRAPPED = "The quick brown fox\njumps over the lazy\ndog, and nobody\nminds (so far).\n"
LONG = "x" * 47


def show(pieces: Iterable[str], columns: int, *, can_clear: bool = True) -> str:
    screen, wrap = Screen(columns), WordWrap(lambda: columns, can_clear=can_clear)
    for piece in pieces:
        screen.write(wrap.feed(piece))
    return screen.text


SHOWN = {
    "words": (
        PROSE,
        "The quick brown fox\njumps over the lazy\ndog, and nobody\nminds (so far).\n",
    ),
    "a word that ends at the margin": ("1234567890 12345678 a", "1234567890 12345678\na"),
    "a list": (
        "- one two three four five\n  - six seven eight nine\n10. ten eleven 12 13\n",
        "- one two three\n  four five\n  - six seven eight\n    nine\n10. ten eleven 12\n    13\n",
    ),
    "a paragraph of a list": (
        "1. a\n\n   one two three four five\n",
        "1. a\n\n   one two three\n   four five\n",
    ),
    "a paragraph after several empty lines of a list": (
        "- a\n\n\n    one two three four five\n",
        "- a\n\n\n    one two three\n    four five\n",
    ),
    "code after the end of a list": (
        "- a\n\nend\n\n    one two three four five\n",
        "- a\n\nend\n\n    one two three fo\nur five\n",
    ),
    "a quotation": ("> one two three four five\n", "> one two three\n  four five\n"),
    "a long word": (
        f"see {LONG} there and here\n",
        f"see\n{LONG[:20]}\n{LONG[:20]}\n{LONG[:7]} there and\nhere\n",
    ),
    "a long word that fills its lines": (f"{LONG[:40]} a\n", f"{LONG[:20]}\n{LONG[:20]}\na\n"),
    "a fenced block": (
        f"```py\na = 1  # a b c d e f g h\n```\n{PROSE}",
        f"```py\na = 1  # a b c d e f\n g h\n```\n{WRAPPED}",
    ),
    "a fence inside a longer one": (
        "~~~~\n~~~\naaaa bbbb cccc ddddd eeee\n~~~~\n",
        "~~~~\n~~~\naaaa bbbb cccc ddddd\n eeee\n~~~~\n",
    ),
    "indented code": (
        "So:\n\n    aaaa bbbb cccc dddd\n\nand after it more words\n",
        "So:\n\n    aaaa bbbb cccc d\nddd\n\nand after it more\nwords\n",
    ),
    "inline code": ("`a` `b c d` e f g h i j\n", "`a` `b c d` e f g h\ni j\n"),
    "a table": (
        "| one | two | three | four |\n|---|---|\n",
        "| one | two | three \n| four |\n|---|---|\n",
    ),
    "ideographs": (
        "日本語の文章はどこでも折り返せます。\n",
        "日本語の文章はどこ\nでも折り返せます。\n",
    ),
    "a full stop of ideographs": (
        "日本語の文章は長い。「次」\n",
        "日本語の文章は長\nい。「次」\n",
    ),
    "ideographs and words": ("これは Python です。\n", "これは Python で\nす。\n"),
    "accents of their own": (
        "cafe\u0301 cafe\u0301 cafe\u0301 cafe\u0301 x\n",
        "cafe\u0301 cafe\u0301 cafe\u0301 cafe\u0301\nx\n",
    ),
    "tabs": ("a\tb\tc d e f\n", "a       b       c d\ne f\n"),
}


@pytest.mark.parametrize("name", SHOWN)
@pytest.mark.parametrize("can_clear", [True, False])
def test_lines_break_between_words(name: str, can_clear: bool) -> None:
    """The same whether the text arrives at once, by characters, or in pieces of any size."""
    text, shown = SHOWN[name]
    expected = "\n".join(line.rstrip() for line in shown.split("\n"))
    numbers = random.Random(name)
    for _ in range(20):
        cuts = sorted(numbers.randrange(len(text) + 1) for _ in range(len(text) // 4))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert show(pieces, 20, can_clear=can_clear) == expected
    assert show([text], 20, can_clear=can_clear) == expected
    assert show(text, 20, can_clear=can_clear) == expected


@pytest.mark.parametrize("columns", [20, 33, 40, 80, 200])
def test_no_word_is_broken_at_any_width(columns: int) -> None:
    """If it fits a line. Nothing is lost or doubled."""
    numbers = random.Random(columns)
    words = ["x" * numbers.randint(1, 18) for _ in range(300)]
    shown = show(" ".join(words), columns)
    assert shown.split() == words
    assert max(map(len, shown.split("\n"))) < columns


@pytest.mark.parametrize("columns", [1, 2, 3, 5])
def test_a_terminal_too_narrow_for_words(columns: int) -> None:
    """The terminal breaks them."""
    text = "ab cde fghi 日本 x\n"
    assert "".join(show(text, columns).split()) == "".join(text.split())


def test_the_width_may_change_between_lines() -> None:
    widths = [40]
    wrap = WordWrap(lambda: widths[-1])
    line = "aaaa bbbb cccc dddd eeee\n"
    assert wrap.feed(line) == line
    widths.append(11)
    assert wrap.feed("\n") == "\n"
    assert wrap.feed(line) == "aaaa bbbb \ncccc dddd \neeee\n"


def test_a_word_is_shown_before_it_is_complete() -> None:
    """And it is erased, if it grows over the margin."""
    wrap = WordWrap(lambda: 11)
    assert [wrap.feed(piece) for piece in ("aaaa ", "bbb", "bbb")] == [
        "aaaa ",
        "bbb",
        "\b\b\b\x1b[K\nbbbbbb",
    ]
    wrap = WordWrap(lambda: 11, can_clear=False)
    assert wrap.feed("aaaa ") + wrap.feed("bbb") + wrap.feed("bbb") == ("aaaa bbb\b\b\b   \nbbbbbb")
