"""Summaries consist of sentences of the text, within the token limit."""

import math
import time

import pytest

from cfai.local.backends.textrank import TextRank, rank_sentences, split_sentences
from cfai.local.backends.wordpiece import count_tokens
from cfai.local.errors import ApiError

TEXT = (
    "The harbour of Ostend was rebuilt in 1931. Fishing boats filled the harbour every morning. "
    "A bakery opened. The rebuilt harbour gave the fishing boats of Ostend a safe place. "
    "Nobody remembers the weather of that year. Tourists came later."
)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", []),
        ("One.", ["One."]),
        ("One. Two!  Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ('He said "no." Then he left.', ['He said "no."', "Then he left."]),
        ("A title\n\nA text.", ["A title", "A text."]),
        ("一。二。", ["一。", "二。"]),
        ("It costs 4.99 now.", ["It costs 4.99 now."]),
        ("A. B. Carr wrote it. Then he left.", ["A. B. Carr wrote it.", "Then he left."]),
        ("Tea, milk etc. are sold. and more. Then", ["Tea, milk etc. are sold. and more.", "Then"]),
    ],
)
def test_a_text_is_split_into_sentences(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


def test_the_most_central_sentences_are_selected_in_text_order() -> None:
    assert TextRank().summarize(TEXT, max_tokens=1024) == (
        "The harbour of Ostend was rebuilt in 1931. "
        "The rebuilt harbour gave the fishing boats of Ostend a safe place."
    )


@pytest.mark.parametrize(
    ("sentences", "selected"),
    [(1, 1), (2, 1), (3, 1), (4, 1), (5, 2), (7, 2), (8, 3), (9, 3), (12, 4), (30, 10)],
)
def test_a_summary_has_one_sentence_in_three(sentences: int, selected: int) -> None:
    """All of them equal, so the first ones."""
    text = " ".join(["Boats fill the harbour."] * sentences)
    expected = " ".join(["Boats fill the harbour."] * selected)
    assert TextRank().summarize(text, max_tokens=1024) == expected


def test_of_a_sentence_that_is_too_long_the_beginning_is_left() -> None:
    text = "One two three four five six. Seven."
    assert TextRank().summarize(text, max_tokens=3) == "One two three"
    assert TextRank().summarize(text, max_tokens=7) == "One two three four five six."
    assert TextRank().summarize(text, max_tokens=6) == "One two three four five"
    assert TextRank().summarize(text, max_tokens=0) == ""


def test_ranks_are_positive_and_sum_to_1() -> None:
    ranks = rank_sentences(split_sentences(TEXT))
    assert math.isclose(sum(ranks), 1)
    assert min(ranks) > 0


@pytest.mark.parametrize(
    "third",
    [
        "weather changed",
        "weather",
        "storms changed the weather",
        "a b",
        "snow snow rain",
    ],
)
def test_the_similarity_of_a_sentence_to_itself_does_not_count(third: str) -> None:
    """Two sentences that share words rank equally; a third one gets only the minimum."""
    related, other, alone = rank_sentences(["cats chase mice", "mice fear cats", third])
    assert math.isclose(related, other)
    # Before they are normalized: 1/3 each for the pair, and (1 - 0.85) / 3 for the third.
    assert math.isclose(alone, 0.05 / (1 / 3 + 1 / 3 + 0.05), rel_tol=5e-3)


@pytest.mark.parametrize("max_tokens", [1, 5, 12, 20, 40])
def test_a_summary_does_not_exceed_max_tokens(max_tokens: int) -> None:
    summary = TextRank().summarize(TEXT, max_tokens=max_tokens)
    assert summary
    assert count_tokens(summary) <= max_tokens


@pytest.mark.parametrize("text", ["", " \n ", "...", "?! ?!", "same same. same same. same same."])
def test_trivial_texts_have_summaries(text: str) -> None:
    assert len(TextRank().summarize(text, max_tokens=10)) <= len(text)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Mr. Smith came. He left.", ["Mr. Smith came.", "He left."]),
        ("We saw Dr. Who (Prof. Song). Yes.", ["We saw Dr. Who (Prof. Song).", "Yes."]),
        ("J. R. R. Tolkien wrote. A lot.", ["J. R. R. Tolkien wrote.", "A lot."]),
        ("Fruit, e.g. Apples. Good.", ["Fruit, e.g. Apples.", "Good."]),
        ("Tea, milk, etc. are sold. Now.", ["Tea, milk, etc. are sold.", "Now."]),
        ("See No. 5. It is new.", ["See No. 5.", "It is new."]),
        ("Mr.\n\nNew paragraph.", ["Mr.", "New paragraph."]),
        ("It ends. it goes on.", ["It ends. it goes on."]),
        ("Really? yes.", ["Really?", "yes."]),
    ],
)
def test_abbreviations_do_not_end_a_sentence(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


@pytest.mark.parametrize("part", ["A. ", "a. ", "Mr. ", "WOW! ", "good!!! ", "\n \n", '."', "…”"])
def test_the_work_grows_with_the_text(part: str) -> None:
    """And not with its square: 100,000 characters are read in a few seconds."""
    start = time.monotonic()
    TextRank().summarize(part * (100_000 // len(part)), max_tokens=1024)
    assert time.monotonic() - start < 60


def test_the_longest_text_that_is_read() -> None:
    assert TextRank().summarize("a " * 50_000, max_tokens=10) == " ".join("a" * 10)
    with pytest.raises(ApiError, match="input_text has 100001 characters, more than the 100000"):
        TextRank().summarize("a" * 100_001, max_tokens=10)
