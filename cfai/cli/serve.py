"""`cfai serve` and `cfai pull`: a Workers AI on this machine, and what it needs."""

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cfai.cli import clients, notices, output

if TYPE_CHECKING:
    from cfai.local import Exchange, Server

PORT: Final = 8799

_SHELL: Final = '$env:{} = "{}"' if sys.platform == "win32" else "export {}={}"


def serve(
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = PORT,
    host: Annotated[str, typer.Option(help="A loopback address.")] = "127.0.0.1",
    folder: Annotated[
        Path | None,
        typer.Option(help="Where fine-tunes are kept; left out, they are gone at the end."),
    ] = None,
) -> None:
    """Be a Workers AI for the programs on this machine, until Ctrl-C.

    Small models answer, and nothing leaves the machine. The output is what a shell has to be told
    for programs to find it.
    """
    clients.need(*clients.TEXT, *clients.EMBEDDINGS, needed_for="the local server")
    clients.fetch_weights()
    asyncio.run(_serve(host, port, folder))


async def _serve(host: str, port: int, folder: Path | None) -> None:
    from cfai.local import Server

    server = Server(folder, host=host, port=port, prewarm=True, on_request=_announce)
    with notices.progress("loading the text model"):
        await server.__aenter__()
    try:
        with _told_to_stop() as stop:
            _introduce(server)
            await stop.wait()
    finally:
        await server.close()


@contextmanager
def _told_to_stop() -> Iterator[asyncio.Event]:
    """Give what is set by Ctrl-C, and by whoever else asks the process to end (SIGTERM)."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    asked = (signal.SIGINT, signal.SIGTERM)
    try:
        for number in asked:
            loop.add_signal_handler(number, stop.set)
    except NotImplementedError:
        # On Windows, Ctrl-C cancels the task that waits instead.
        yield stop
        return
    try:
        yield stop
    finally:
        for number in asked:
            loop.remove_signal_handler(number)


def _introduce(server: "Server") -> None:
    told = server.credentials
    variables = {
        "CLOUDFLARE_BASE_URL": told["base_url"],
        "CLOUDFLARE_ACCOUNT_ID": told["account_id"],
        "CLOUDFLARE_API_TOKEN": told["api_token"],
    }
    lines = [f"# listening on {server.base_url}, until Ctrl-C"]
    lines += [_SHELL.format(name, value) for name, value in variables.items()]
    output.say("".join(f"{line}\n" for line in lines))


def _announce(exchange: "Exchange") -> None:
    said = [str(exchange.status), exchange.model or "(no model)", exchange.backend or ""]
    if exchange.ending is not None:
        said.append(f"{exchange.ending.completion_tokens} tokens")
    notices.note("  ".join(part for part in said if part))


def pull() -> None:
    """Fetch the local text model's weights; print where they are."""
    from cfai.local import weights

    clients.fetch_weights()
    output.say(f"{weights.ensure()}\n")
