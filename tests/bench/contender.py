"""The base class of the contenders, and what they send."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import islice
from typing import ClassVar

from .server import TEXTS

MODEL = "@cf/meta/llama-3.1-8b-instruct-fast"
EMBEDDER = "@cf/baai/bge-large-en-v1.5"
QUESTION = "Why is the sky blue?"
CHAT = [{"role": "system", "content": "You are terse."}, {"role": "user", "content": QUESTION}]
MESSAGES = [{"role": "user", "content": QUESTION}]
SENTENCES = [f"sentence number {number}" for number in range(TEXTS)]
NATIVE = "/client/v4/accounts/a/ai/run/"
MANY_TEXTS = 4_000
MILLION = 1_000_000
WINDOW = 8
"""Requests in flight while many texts are embedded."""


def many_texts(count: int = MANY_TEXTS) -> Iterator[str]:
    """Texts that are made as they are needed."""
    return (f"document {number} is about snow, rain and tea" for number in range(count))


def batches(texts: Iterator[str]) -> Iterator[list[str]]:
    """The texts of each request."""
    while batch := list(islice(texts, TEXTS)):
        yield batch


class Contender(ABC):
    """A client that stays open for a whole row.

    It takes part in a row if it has the row's `work` as a method: a coroutine that does the work
    once and returns the number of characters (or floats) that it read, which is checked.
    """

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    """The packages that it needs."""
    note: ClassVar[str] = ""
    """How it is used, if that is not obvious."""

    def __init__(self, origin: str) -> None:
        self.origin = origin

    @abstractmethod
    async def open(self) -> None:
        """Create the client."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close its connections."""
