"""The command line: its commands, and how their errors become messages and exit codes."""

import sys
import warnings
from collections.abc import Iterable, Mapping
from errno import ENOSPC
from importlib import import_module
from textwrap import wrap
from typing import Any, Final, cast

import click

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


class _NarrowFormatter(click.HelpFormatter):
    """Leaves the explanations of options most of a narrow terminal."""

    def write_dl(
        self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2
    ) -> None:
        """Write a list of terms and their explanations."""
        room = self.width - self.current_indent
        indent = " " * self.current_indent
        wrapped = [
            ("\n".join(wrap(term, room, subsequent_indent=indent)), text) for term, text in rows
        ]
        super().write_dl(wrapped, min(col_max, self.width // 3), col_spacing)


class _HelpContext(click.Context):
    formatter_class = _NarrowFormatter


def _fit_help(command: click.Command) -> click.Command:
    """Let the help of a command and of its own commands fit a narrow terminal."""
    command.context_class = _HelpContext
    if isinstance(command, click.Group):
        for own in command.commands.values():
            _fit_help(own)
    return command


class _Commands(click.Group):
    """Imports a command when it is used: all of them take half a second."""

    context_class: type[click.Context] = _HelpContext

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the commands in the order of the help."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in _COMMANDS:
            return None
        module, name, _ = _COMMANDS[cmd_name]
        return _fit_help(getattr(import_module(f"cfai.cli.{module}"), name))

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the arguments, among which may be `--help`."""
        with console.exit_on_broken_pipe():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Click would write an empty line to standard error after Ctrl-C."""
        try:
            with console.exit_on_broken_pipe():
                return super().invoke(ctx)
        except KeyboardInterrupt as exc:
            raise click.Abort from exc

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in _COMMANDS.items()])


def _print_version(context: click.Context, _: click.Parameter, value: Any) -> None:
    if value:
        console.write_text(f"cfai {__version__}\n")
        context.exit()


@click.group(
    cls=_Commands,
    epilog="Set CLOUDFLARE_ACCOUNT_ID and CLOUDFLARE_API_TOKEN, or use --local without an account.",
    context_settings={
        "help_option_names": ["-h", "--help"],
        "show_default": True,
        # By default, a help has at least 50 columns.
        "terminal_width": max(min(console.read_columns(), 80) - 2, 18),
    },
)
@click.option("--verbose", "-v", is_flag=True, help="Log each request on standard error.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version.",
)
def app(*, verbose: bool) -> None:
    """Cloudflare Workers AI from the command line."""
    if verbose:
        from cfai._session.logs import configure_logging

        configure_logging("debug")


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
        return _run_command()
    except (CfaiError, KeyboardInterrupt, click.Abort) as exc:
        console.print_error(exc)
        return console.exit_code(exc)
    except OSError as exc:
        # click writes help texts itself.
        if exc.errno != ENOSPC:
            raise
        console.print_error(console.stdout_error(exc))
        return console.EXIT_FAILED
    except click.UsageError as exc:
        console.print_usage_error(exc)
        return console.EXIT_USAGE


def _run_command() -> int:
    try:
        return app(prog_name="cfai", standalone_mode=False) or 0
    except click.exceptions.NoArgsIsHelpError as exc:  # `cfai` alone, or `cfai queue`
        console.write_text(f"{exc.format_message()}\n")
        return 0
