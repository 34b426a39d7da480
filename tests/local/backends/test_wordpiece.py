"""The tokenizer returns the same ids as BERT's own."""

import time

import pytest

from cfai.local.backends.wordpiece import count_tokens, encode, split_words, vocabulary

CLS, SEP, UNKNOWN = 101, 102, 100

# Computed with the Rust tokenizer of the model's publisher, from the tokenizer.json beside it.
TOKEN_IDS = [
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
    ("x" * 100 + "!", [22038, *[20348] * 49, 999]),
]


@pytest.mark.parametrize(("text", "ids"), TOKEN_IDS)
def test_a_text_is_encoded_as_token_ids(text: str, ids: list[int]) -> None:
    assert encode(text) == [CLS, *ids, SEP]
    assert count_tokens(text) == len(ids)


def test_the_vocabulary_is_complete() -> None:
    tokens = vocabulary()
    assert len(tokens) == 30522
    assert (tokens["[PAD]"], tokens["[UNK]"], tokens["[CLS]"], tokens["[SEP]"]) == (
        0,
        100,
        101,
        102,
    )


def test_a_long_text_is_truncated_and_ends_with_sep() -> None:
    numbers = encode("word " * 600, max_tokens=512)
    assert len(numbers) == 512
    assert (numbers[0], numbers[-1]) == (CLS, SEP)


def test_a_limit_counts_the_marks() -> None:
    assert encode("one two three", max_tokens=5) == [CLS, 2028, 2048, 2093, SEP]
    assert encode("one two three", max_tokens=4) == [CLS, 2028, 2048, SEP]
    assert encode("unaffable", max_tokens=3) == [CLS, 14477, SEP]


def test_special_tokens_in_a_text_are_ordinary_words() -> None:
    assert SEP not in encode("[SEP]")[1:-1]
    assert list(split_words("[SEP]")) == ["[", "sep", "]"]


@pytest.mark.parametrize("text", ["\u0301\u0316", "\x01", " ", "\u200b ", "a", "a ", "\u4e00", "!"])
def test_a_long_text_is_encoded_at_once(text: str) -> None:
    """Also one with hardly any tokens: 20 million characters took minutes."""
    start = time.monotonic()
    assert len(encode(text * (20_000_000 // len(text)))) <= 512
    assert time.monotonic() - start < 30
