"""The command line: its commands, and how their errors become messages and exit codes."""

import sys
import warnings
from collections.abc import Mapping
from errno import ENOSPC
from importlib import import_module
from textwrap import wrap
from typing import Annotated, Any, Final, cast

import typer
from typer.core import TyperGroup

from cfai._wire.version import __version__
from cfai.cli import console
from cfai.errors import CfaiError, ModelRetiredWarning

__all__ = [
    "app",
    "run_app",
]

_COMMANDS: Final[Mapping[str, tuple[str, str, str]]] = {
    "demo": ("demo", "demo", "Chat and search on this machine, without an account."),
    "chat": ("chat", "chat", "Ask a question, or have a conversation."),
    "run": ("run", "run", "Run any model."),
    "embed": ("embed", "embed", "Embed texts: print a vector for each."),
    "transcribe": ("media", "transcribe", "Print the text of a recording."),
    "listen": ("listening", "listen", "Print what is said while it is said."),
    "image": ("media", "image", "Generate an image from a description."),
    "speak": ("media", "speak", "Speak a text."),
    "decide": ("decisions", "decide", "Answer typed questions about a text or images."),
    "extract": ("decisions", "extract", "Extract typed fields from a text or images."),
    "markdown": ("markdown", "markdown", "Convert documents and images to Markdown."),
    "models": ("lists", "models_app", "List the models and show their schemas."),
    "finetunes": ("lists", "finetunes_app", "List, create and upload fine-tunes (LoRA)."),
    "queue": ("queue", "app", "Submit many runs at once and wait for them."),
    "serve": ("serve", "serve", "Run a local Workers AI server."),
    "pull": ("serve", "pull", "Download the weights of local models."),
}
"""The module and the name of each command, and its line in the help."""


# The classes of click, or those of the copy of click in newer typers.
_Context: Any = TyperGroup.context_class
_HelpFormatter: Any = _Context.formatter_class


class _NarrowFormatter(_HelpFormatter):  # type: ignore[misc]  # its base is chosen by typer
    """Leaves the explanations of options most of a narrow terminal."""

    def write_dl(self, rows: Any, col_max: int = 30, col_spacing: int = 2) -> None:
        """Write a list of terms and their explanations."""
        room = self.width - self.current_indent
        terms = [
            "\n".join(wrap(term, room, subsequent_indent=" " * self.current_indent))
            for term, _ in rows
        ]
        explained = zip(terms, (text for _, text in rows), strict=True)
        super().write_dl(list(explained), min(col_max, self.width // 3), col_spacing)


class _HelpContext(_Context):  # type: ignore[misc]  # its base is chosen by typer
    formatter_class = _NarrowFormatter


def _fit_help(command: Any) -> Any:
    """Let the help of a command and of its own commands fit a narrow terminal."""
    command.context_class = _HelpContext
    for own in getattr(command, "commands", {}).values():
        _fit_help(own)
    return command


class _Commands(TyperGroup):
    """Imports a command when it is used: all of them take half a second."""

    context_class = _HelpContext

    def list_commands(self, ctx: Any) -> list[str]:
        """List the commands in the order of the help."""
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import a command."""
        if cmd_name not in _COMMANDS:
            return None
        module, name, _ = _COMMANDS[cmd_name]
        command = getattr(import_module(f"cfai.cli.{module}"), name)
        if not isinstance(command, typer.Typer):
            single = typer.Typer(add_completion=False, **_STYLE)
            single.command(cmd_name)(command)
            return _fit_help(typer.main.get_command(single))
        return _fit_help(typer.main.get_group(command))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in _COMMANDS.items()])


_STYLE: Final[Mapping[str, Any]] = {"pretty_exceptions_enable": False, "rich_markup_mode": None}

app: typer.Typer = typer.Typer(
    name="cfai",
    cls=_Commands,
    help="Cloudflare Workers AI from the command line.",
    epilog="Set CLOUDFLARE_ACCOUNT_ID and CLOUDFLARE_API_TOKEN, or use --local without an account.",
    # By default, a help has at least 50 columns.
    context_settings={
        "help_option_names": ["-h", "--help"],
        "terminal_width": max(min(console.read_columns(), 80) - 2, 18),
    },
    **_STYLE,
)

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
