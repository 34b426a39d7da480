"""Summaries by TextRank: the sentences that share most with the others, in their own order.

Mihalcea and Tarau, "TextRank: Bringing Order into Texts" (EMNLP 2004), with tf-idf weights.
Nothing is written anew, and the same text has the same summary everywhere. Pure Python.
"""

import math
import re
from collections import Counter, defaultdict

from cfai.local.backends import wordpiece

Vector = dict[str, float]

_DAMPING = 0.85
_ROUNDS = 40
_SHARE = 3
"""A summary has about one sentence in three."""

# After a full stop, and what closes behind it; in Chinese and Japanese without a space.
_SENTENCE_END = re.compile(r"(?<=[.!?…])\s+|(?<=[.!?…][\"'”’)\]])\s+|(?<=[。！？])|\n\s*\n")
_WORD = re.compile(r"[^\W\d_]{4,}")


class TextRank:
    """The summarizer."""

    name = "textrank"

    def summarize(self, text: str, *, at_most: int) -> str:
        """Give the main sentences of *text*, *at_most* tokens (WordPiece) in all."""
        found = sentences(text)
        if not found:
            return ""
        # Rounded, so that of equals the first is better, and not the one with the luckier sum.
        rank = [round(share, 9) for share in ranks(found)]
        best_first = sorted(range(len(found)), key=lambda i: -rank[i])
        chosen = _fitting(found, best_first[: max(1, round(len(found) / _SHARE))], at_most)
        return " ".join(chosen) or _cut(found[best_first[0]], at_most)


def sentences(text: str) -> list[str]:
    """Split *text* at the ends of sentences and at empty lines."""
    parts = (" ".join(part.split()) for part in _SENTENCE_END.split(text) if part)
    return [part for part in parts if part]


def ranks(found: list[str]) -> list[float]:
    """Give how central each sentence is: PageRank on their likeness, which sums to 1."""
    rows = _vectors(found)
    n = len(rows)
    totals = _likeness(rows, [1.0] * n)
    rank = [1 / n] * n
    for _ in range(_ROUNDS):
        shares = [r / total if total > 0 else 0.0 for r, total in zip(rank, totals, strict=True)]
        rank = [(1 - _DAMPING) / n + _DAMPING * got for got in _likeness(rows, shares)]
    whole = sum(rank)
    return [r / whole for r in rank]


def _vectors(found: list[str]) -> list[Vector]:
    """Give each sentence's tf-idf weights, scaled to length 1."""
    counts = [Counter(_WORD.findall(sentence.lower())) for sentence in found]
    spread = Counter(word for count in counts for word in count)
    rows: list[Vector] = []
    for count in counts:
        row = {w: times * math.log(1 + len(found) / spread[w]) for w, times in count.items()}
        length = math.sqrt(sum(weight * weight for weight in row.values())) or 1.0
        rows.append({word: weight / length for word, weight in row.items()})
    return rows


def _likeness(rows: list[Vector], given: list[float]) -> list[float]:
    """Multiply the matrix of cosines, without its diagonal, by a vector.

    Through the words, so that it costs as much as the text is long and not the square of it.
    """
    by_word: defaultdict[str, float] = defaultdict(float)
    for row, amount in zip(rows, given, strict=True):
        for word, weight in row.items():
            by_word[word] += weight * amount
    # A sentence is like itself (1), and that says nothing; an empty one is not even that.
    return [
        max(0.0, sum(weight * by_word[word] for word, weight in row.items()) - amount)
        if row
        else 0.0
        for row, amount in zip(rows, given, strict=True)
    ]


def _fitting(found: list[str], best_first: list[int], at_most: int) -> list[str]:
    """Take the best sentences while their tokens fit, and give them in the text's order."""
    kept: list[int] = []
    for i in best_first:
        at_most -= wordpiece.count(found[i])
        if at_most < 0:
            break
        kept.append(i)
    return [found[i] for i in sorted(kept)]


def _cut(sentence: str, at_most: int) -> str:
    """Give the words with which *sentence* begins, as many as fit."""
    kept: list[str] = []
    for word in sentence.split():
        at_most -= wordpiece.count(word)
        if at_most < 0:
            break
        kept.append(word)
    return " ".join(kept)
