"""`cfai embed`: a vector for each text, in order, with several requests under way at once."""

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import batched
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cfai.cli import clients, inputs, notices, options, output
from cfai.errors import InputError
from cfai.profiles import profile
from cfai.tasks import Embeddings, TextEmbeddings, rules

if TYPE_CHECKING:
    from cfai import WorkersAI

MODEL: Final = "@cf/baai/bge-m3"

_AT_ONCE: Final = 8
"""How many requests are under way at once."""

_A_BATCH: Final = 100
"""How many texts go into one request, where nothing is known of the model."""
