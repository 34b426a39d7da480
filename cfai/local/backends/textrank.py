"""The summarizer: TextRank selects the sentences that are most similar to the others.

Mihalcea and Tarau, "TextRank: Bringing Order into Texts" (EMNLP 2004), with tf-idf weights.
The sentences are unchanged and in the order of the text; the result is deterministic. Pure Python.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import accumulate, takewhile

from cfai.local.backends import wordpiece
from cfai.local.errors import text_too_long

WordWeights = dict[str, float]

_MAX_CHARACTERS = 100_000
"""About 25 times what the service's model reads, 1,024 tokens."""

_DAMPING = 0.85
_ROUNDS = 40
_SENTENCES_PER_SELECTED = 3
"""A summary has about one sentence in three."""

# After a full stop and closing quotes; in Chinese and Japanese without a space.
_SENTENCE_END = re.compile(r"(?<=[.!?…])\s+|(?<=[.!?…][\"'”’)\]])\s+|(?<=[。！？])")
_PARAGRAPH_END = re.compile(r"\n\s*\n")
# At the end of a part that is no whole sentence: titles, initials, and abbreviations in a sentence.
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\[\"'“‘])(?:(?:Mr|Mrs|Ms|Dr|Prof|Rev|Hon|St|Gen|Col|Capt|Lt|Sgt|Gov|Sen|Rep|No|Nos|vs|cf"
    r"|Fig|Figs|Eq|Vol|pp|ed|eds|approx|ca|e\.g|i\.e|[A-Z])\.)$"
)
_WORD = re.compile(r"[^\W\d_]{4,}")


class TextRank:
    """The summarizer."""

    name = "textrank"

    def summarize(self, text: str, *, max_tokens: int) -> str:
        """Return the main sentences of *text*, at most *max_tokens* (WordPiece) together.

        Raises:
            ApiError: The text is too long to be ranked within a second or two.
        """
        if len(text) > _MAX_CHARACTERS:
            raise text_too_long("input_text", len(text), _MAX_CHARACTERS)
        sentences = split_sentences(text)
        if not sentences:
            return ""
        # Rounded, so that among equals the first wins, regardless of rounding errors.
        ranks = [round(rank, 9) for rank in rank_sentences(sentences)]
        best_first = sorted(range(len(sentences)), key=lambda i: -ranks[i])
        best_first = best_first[: max(1, round(len(sentences) / _SENTENCES_PER_SELECTED))]
        fitting = _count_fitting((sentences[i] for i in best_first), max_tokens)
        if fitting:
            return " ".join(sentences[i] for i in sorted(best_first[:fitting]))
        words = sentences[best_first[0]].split()
        return " ".join(words[: _count_fitting(words, max_tokens)])


def split_sentences(text: str) -> list[str]:
    """Split *text* at the ends of sentences and at empty lines, but not after "Mr." and the like.

    A part that begins with a lowercase letter continues the sentence before, as after "etc.".
    """
    sentences: list[list[str]] = []
    for paragraph in _PARAGRAPH_END.split(text):
        parts = (" ".join(part.split()) for part in _SENTENCE_END.split(paragraph) if part)
        begins = True
        for part in filter(None, parts):
            if not begins and _continues(sentences[-1][-1], part):
                sentences[-1].append(part)
            else:
                sentences.append([part])
            begins = False
    return [" ".join(parts) for parts in sentences]


def _continues(before: str, part: str) -> bool:
    """Whether a part continues the sentence that the part *before* belongs to."""
    return before.endswith(".") and (part[0].islower() or _ABBREVIATION.search(before) is not None)


def rank_sentences(sentences: list[str]) -> list[float]:
    """Return the centrality of each sentence: PageRank on their similarities. They sum to 1."""
    rows = _weigh_words(sentences)
    n = len(rows)
    totals = _multiply_similarities(rows, [1.0] * n)
    ranks = [1 / n] * n
    for _ in range(_ROUNDS):
        shares = [
            rank / total if total > 0 else 0.0 for rank, total in zip(ranks, totals, strict=True)
        ]
        received = _multiply_similarities(rows, shares)
        ranks = [(1 - _DAMPING) / n + _DAMPING * amount for amount in received]
    total = sum(ranks)
    return [rank / total for rank in ranks]


def _weigh_words(sentences: list[str]) -> list[WordWeights]:
    """Return each sentence's tf-idf weights, normalized to length 1."""
    counts = [Counter(_WORD.findall(sentence.lower())) for sentence in sentences]
    frequency = Counter(word for count in counts for word in count)
    rows: list[WordWeights] = []
    for count in counts:
        row = {
            word: times * math.log(1 + len(sentences) / frequency[word])
            for word, times in count.items()
        }
        length = math.sqrt(sum(weight * weight for weight in row.values())) or 1.0
        rows.append({word: weight / length for word, weight in row.items()})
    return rows


def _multiply_similarities(rows: list[WordWeights], vector: list[float]) -> list[float]:
    """Multiply the matrix of cosines, without its diagonal, by a vector.

    Summed by word, so that the cost is linear in the length of the text, not quadratic.
    """
    by_word: defaultdict[str, float] = defaultdict(float)
    for row, amount in zip(rows, vector, strict=True):
        for word, weight in row.items():
            by_word[word] += weight * amount
    # A sentence's similarity to itself is subtracted word by word: for a word of no other sentence,
    # exactly 0 remains, and not a rounding error, by which a rank would be divided.
    return [
        max(0.0, sum(weight * (by_word[word] - weight * amount) for word, weight in row.items()))
        for row, amount in zip(rows, vector, strict=True)
    ]


def _count_fitting(texts: Iterable[str], max_tokens: int) -> int:
    """Return how many of the first texts fit together."""
    totals = accumulate(map(wordpiece.count_tokens, texts))
    return sum(1 for _ in takewhile(lambda total: total <= max_tokens, totals))
