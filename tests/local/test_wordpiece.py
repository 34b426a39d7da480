"""The tokenizer gives the numbers that BERT's own gives."""

import pytest

from cfai.local.backends.wordpiece import count, encode, vocabulary, words

CLS, SEP, UNKNOWN = 101, 102, 100

# Computed with the Rust tokenizer of the model's publisher, from the tokenizer.json beside it.
PIECES = [
    ("", []),
    ("   ", []),
    ("Hello, world!", [7592, 1010, 2088, 999]),
    ("How do I reset my password?", [2129, 2079, 1045, 25141, 2026, 20786, 1029]),
    ("unaffable", [14477, 20961, 3468]),
    ("Crème Brûlée", [13675, 21382, 7987, 9307, 2063]),
    ("$4.99 + 20%", [1002, 1018, 1012, 5585, 1009, 2322, 1003]),
    ("don't stop", [2123, 1005, 1056, 2644]),
    ("snake_case", [7488, 1035, 2553]),
    ("日本語", [1864, 1876, 1950]),
    ("a\x00b\ufffdc", [5925]),
    ("tabs\tand\nlines\xa0end", [21628, 2015, 1998, 3210, 2203]),
    ("\u200bzero\xadwidth", [5717, 9148, 11927, 2232]),
    ("naïve—dash", [15743, 1517, 11454]),
    ("🙂 ok", [UNKNOWN, 7929]),
    ("Straße", [2358, 27807]),
    ("y" * 101, [UNKNOWN]),
]


@pytest.mark.parametrize(("text", "pieces"), PIECES)
def test_a_text_becomes_the_numbers_of_its_pieces(text: str, pieces: list[int]) -> None:
    assert encode(text) == [CLS, *pieces, SEP]
    assert count(text) == len(pieces)


def test_the_vocabulary_is_whole() -> None:
    pieces = vocabulary()
    assert len(pieces) == 30522
    assert (pieces["[PAD]"], pieces["[UNK]"], pieces["[CLS]"], pieces["[SEP]"]) == (
        0,
        100,
        101,
        102,
    )


def test_a_long_text_is_cut_and_still_ends_as_it_should() -> None:
    numbers = encode("word " * 600, longest=512)
    assert len(numbers) == 512
    assert (numbers[0], numbers[-1]) == (CLS, SEP)


def test_names_of_special_tokens_in_a_text_are_only_words() -> None:
    assert SEP not in encode("[SEP]")[1:-1]
    assert list(words("[SEP]")) == ["[", "sep", "]"]
