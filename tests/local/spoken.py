"""Sentences spoken by the local voice, as 16 kHz samples."""

import re
from functools import cache

import numpy as np
from numpy.typing import NDArray

from cfai.local import backends
from cfai.local.resampling import resample

SENTENCES = (
    "Hello from the local server.",
    "The train to the coast leaves twice an hour.",
    "What is the weather like in Paris today?",
    "Please send the invoice to my office before Friday.",
    "She sells fresh bread and cakes at the market.",
    "I would like to book a table for two people.",
    "The library opens at nine and closes at six.",
    "Turn left at the bridge and follow the river.",
    "My brother plays the piano every evening.",
    "A new password can be set on the login page.",
    "Heavy rain is expected in the mountains tonight.",
    "Can you repeat the last question, please?",
    "The children are building a castle in the sand.",
    "He forgot his umbrella on the bus.",
    "We will meet in front of the station at noon.",
    "The doctor told me to drink more water.",
    "Where did you put the keys to the garden?",
    "This sentence was spoken by a small voice.",
    "Refunds are paid within five working days.",
    "The museum is closed on the first Monday of the month.",
    "Nobody knows how deep the lake really is.",
    "Thank you very much for your help.",
    "The meeting was moved to next Thursday morning.",
    "There is a small cat sleeping under the chair.",
)


@cache
def spoken(text: str) -> NDArray[np.float32]:
    samples = np.concatenate(list(backends.speaker().speak(text)))
    return resample(samples, 24_000, 16_000)


def silence(seconds: float) -> NDArray[np.float32]:
    return np.zeros(round(seconds * 16_000), np.float32)


def words_of(text: str) -> list[str]:
    """The words without case and punctuation."""
    return re.findall(r"[a-z']+", text.lower())


def word_errors(spoken_words: list[str], heard_words: list[str]) -> int:
    """The fewest words to change, add and remove."""
    row = list(range(len(heard_words) + 1))
    for index, word in enumerate(spoken_words, 1):
        previous, row[0] = row[0], index
        for column, heard in enumerate(heard_words, 1):
            cost = min(row[column] + 1, row[column - 1] + 1, previous + (word != heard))
            previous, row[column] = row[column], cost
    return row[-1]
