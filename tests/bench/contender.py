"""What a contender is, and what all of them send."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from .server import TEXTS

MODEL = "@cf/meta/llama-3.1-8b-instruct"
EMBEDDER = "@cf/baai/bge-large-en-v1.5"
QUESTION = "Why is the sky blue?"
MESSAGES = [{"role": "user", "content": QUESTION}]
SENTENCES = [f"sentence number {number}" for number in range(TEXTS)]
NATIVE = "/client/v4/accounts/a/ai/run/"


class Contender(ABC):
    """One client, kept open for a whole row.

    It is in the rows whose `work` it has as a method: a coroutine that does it once and gives
    the number of characters (or of floats) it got at, so that nobody can leave the work out.
    """

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    """What must be importable."""
    note: ClassVar[str] = ""
    """How it is used here, where that isn't plain."""

    def __init__(self, origin: str) -> None:
        self.origin = origin

    @abstractmethod
    async def open(self) -> None:
        """Make the client."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close its connections."""
