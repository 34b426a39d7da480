"""Summaries are made of the text's own sentences, within their budget."""

import math

import pytest

from cfai.local.backends.textrank import TextRank, ranks, sentences
from cfai.local.backends.wordpiece import count

TEXT = (
    "The harbour of Ostend was rebuilt in 1931. Fishing boats filled the harbour every morning. "
    "A bakery opened. The rebuilt harbour gave the fishing boats of Ostend a safe place. "
    "Nobody remembers the weather of that year. Tourists came later."
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("One.", ["One."]),
        ("One. Two!  Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ('He said "no." Then he left.', ['He said "no."', "Then he left."]),
        ("A title\n\nA text.", ["A title", "A text."]),
        ("一。二。", ["一。", "二。"]),
        ("It costs 4.99 now.", ["It costs 4.99 now."]),
    ],
)
def test_a_text_is_split_into_its_sentences(text: str, found: list[str]) -> None:
    assert sentences(text) == found


def test_the_most_connected_sentences_are_kept_in_their_order() -> None:
    assert TextRank().summarize(TEXT, at_most=1024) == (
        "The harbour of Ostend was rebuilt in 1931. "
        "The rebuilt harbour gave the fishing boats of Ostend a safe place."
    )


def test_ranks_are_shares_of_one() -> None:
    found = ranks(sentences(TEXT))
    assert math.isclose(sum(found), 1)
    assert min(found) > 0


@pytest.mark.parametrize("at_most", [1, 5, 12, 20, 40])
def test_a_summary_keeps_to_its_tokens(at_most: int) -> None:
    summary = TextRank().summarize(TEXT, at_most=at_most)
    assert summary
    assert count(summary) <= at_most


@pytest.mark.parametrize("text", ["", " \n ", "...", "?! ?!", "same same. same same. same same."])
def test_texts_without_much_in_them_have_summaries_too(text: str) -> None:
    assert len(TextRank().summarize(text, at_most=10)) <= len(text)
