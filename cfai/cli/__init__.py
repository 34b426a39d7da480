"""The command line: its commands, and how their errors become messages and exit codes."""

import sys
import warnings
from errno import ENOSPC
from typing import Annotated, Any, cast

import typer

from cfai._wire.version import __version__
from cfai.cli import (
    chat,
    console,
    decisions,
    demo,
    embed,
    lists,
    markdown,
    media,
    queue,
    run,
    serve,
)
from cfai.errors import CfaiError, ModelRetiredWarning

__all__ = [
    "app",
    "run_app",
]

app: typer.Typer = typer.Typer(
    name="cfai",
    help="Cloudflare Workers AI from the command line.",
    epilog="Set CLOUDFLARE_ACCOUNT_ID and CLOUDFLARE_API_TOKEN, or use --local without an account.",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.command()(demo.demo)
app.command()(chat.chat)
app.command()(run.run)
app.command()(embed.embed)
app.command()(media.transcribe)
app.command()(media.image)
app.command()(media.speak)
app.command()(decisions.decide)
app.command()(decisions.extract)
app.command()(markdown.markdown)
app.add_typer(lists.models_app, name="models")
app.add_typer(lists.finetunes_app, name="finetunes")
app.add_typer(queue.app, name="queue")
app.command()(serve.serve)
app.command()(serve.pull)

# The base class of usage errors: click's, or that of the copy of click in newer typers.
_UsageError = cast("type[Exception]", typer.BadParameter.__mro__[2])


@app.callback(invoke_without_command=True)
def _run_without_command(
    context: typer.Context,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log each request on standard error.")
    ] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if verbose:
        from cfai._session.logs import configure_logging

        configure_logging("debug")
    if version:
        console.write_text(f"cfai {__version__}\n")
        raise typer.Exit
    if context.invoked_subcommand is None:
        console.write_text(f"{context.get_help()}\n")


def run_app() -> int:
    """Run the command that the arguments name and give its exit code."""
    for stream in (sys.stdout, sys.stderr):
        # Characters that the stream can't encode become question marks.
        # A stream that was closed before the start is None.
        if stream is not None:
            cast("Any", stream).reconfigure(errors="replace")
    warnings.showwarning = console.print_warning
    warnings.simplefilter("always", ModelRetiredWarning)
    try:
        return app(prog_name="cfai", standalone_mode=False) or 0
    except (CfaiError, KeyboardInterrupt, typer.Abort) as exc:
        console.print_error(exc)
        return console.exit_code(exc)
    except OSError as exc:
        # click writes help texts itself.
        if exc.errno != ENOSPC:
            raise
        console.print_error(console.stdout_error(exc))
        return console.EXIT_FAILED
    except _UsageError as exc:
        console.print_usage_error(exc)
        return console.EXIT_USAGE
