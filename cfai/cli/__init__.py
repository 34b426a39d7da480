"""The command line: the commands, and what becomes of the exceptions that they raise."""

import sys
from errno import ENOSPC
from typing import Annotated, Any, cast

import typer

from cfai.cli import (
    catalogue,
    chat,
    demo,
    embed,
    finetunes,
    markdown,
    notices,
    output,
    queue,
    run,
    serve,
)
from cfai.errors import CfaiError

__all__ = [
    "app",
    "run_app",
]

app: typer.Typer = typer.Typer(
    name="cfai",
    help="Cloudflare Workers AI from the command line.",
    epilog="The account: CLOUDFLARE_ACCOUNT_ID and CLOUDFLARE_API_TOKEN. Without one: --local.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.command()(demo.demo)
app.command()(chat.chat)
app.command()(run.run)
app.command()(embed.embed)
app.command()(markdown.markdown)
app.add_typer(catalogue.app, name="models")
app.add_typer(finetunes.app, name="finetunes")
app.add_typer(queue.app, name="queue")
app.command()(serve.serve)
app.command()(serve.pull)

# A wrong command line is an exception of click's, or of the copy of it that newer typers carry.
_Misuse = cast("type[Exception]", typer.BadParameter.__mro__[2])


@app.callback(invoke_without_command=True)
def _top(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        output.say(f"cfai {installed('cfai')}\n")
        raise typer.Exit
    if context.invoked_subcommand is None:
        output.say(f"{context.get_help()}\n")


def run_app() -> int:
    """Run the command that the arguments name, and give its exit code (see `notices.exit_code`)."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal or file that lacks a character of the answer gets a question mark for it.
        # A stream that was closed before the start is None.
        if stream is not None:
            cast("Any", stream).reconfigure(errors="replace")
    try:
        return app(prog_name="cfai", standalone_mode=False) or 0
    except (CfaiError, KeyboardInterrupt, typer.Abort) as exc:
        notices.complain(exc)
        return notices.exit_code(exc)
    except OSError as exc:
        # Help is written by click itself.
        if exc.errno != ENOSPC:
            raise
        notices.complain(output.broken(exc))
        return notices.FAILED
    except _Misuse as exc:
        notices.complain_of_misuse(exc)
        return notices.MISUSE
