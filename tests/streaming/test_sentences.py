"""`SentenceCutter`: sentences of a text that arrives in pieces, cut anywhere."""

import pytest
from hypothesis import given, strategies

from cfai.streaming.sentences import SentenceCutter

TEXTS = [
    ("Hello. How are you? Fine", ["Hello. ", "How are you? "], "Fine"),
    ("Hello.", [], "Hello."),
    ("Hello. ", [], "Hello. "),
    ('He said "No." Then he left. ', ['He said "No." '], "Then he left. "),
    ("Really?! Yes… Well... ok", ["Really?! ", "Yes… ", "Well... "], "ok"),
    ("It costs 3.50 euros. Cheap!  Yes", ["It costs 3.50 euros. ", "Cheap!  "], "Yes"),
    ("Dr. Smith met J. S. Bach. He", ["Dr. Smith met J. S. Bach. "], "He"),
    ("Fruit, e.g. pears etc. Or not. So", ["Fruit, e.g. pears etc. Or not. "], "So"),
    ("1. Milk\n2. Bread\nDone", ["1. Milk\n", "2. Bread\n"], "Done"),
    ("So did I. You too", ["So did I. "], "You too"),
    ("こんにちは。元気ですか？はい", ["こんにちは。", "元気ですか？"], "はい"),
    ("A title\n\nA text", ["A title\n\n"], "A text"),
    ("", [], ""),
    ("\n\n", [], "\n\n"),
    ("...", [], "..."),
]


@pytest.mark.parametrize(("text", "sentences", "rest"), TEXTS)
def test_a_text_is_cut_at_its_sentences(text: str, sentences: list[str], rest: str) -> None:
    cutter = SentenceCutter()
    assert (cutter.feed(text), cutter.finish()) == (sentences, rest)


@pytest.mark.parametrize(("text", "sentences", "rest"), TEXTS)
def test_the_sentences_do_not_depend_on_the_pieces(
    text: str, sentences: list[str], rest: str
) -> None:
    for size in range(1, len(text) + 1):
        cutter = SentenceCutter()
        parts: list[str] = []
        for start in range(0, len(text), size):
            parts += cutter.feed(text[start : start + size])
        assert "".join([*parts, cutter.finish()]) == text
        assert parts == sentences


@given(strategies.lists(strategies.text('aI1. ?!\n"。…é', max_size=8)))
def test_nothing_is_lost(pieces: list[str]) -> None:
    cutter = SentenceCutter()
    parts = [part for piece in pieces for part in cutter.feed(piece)]
    assert "".join([*parts, cutter.finish()]) == "".join(pieces)
    assert all(part.strip() for part in parts)
