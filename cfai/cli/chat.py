"""`cfai chat`: one question, or a conversation at a terminal."""

import asyncio
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Annotated, Any, Final, Protocol

import typer

from cfai.cli import clients, console, files
from cfai.errors import CfaiError, InputError
from cfai.tasks import Rule, Text, TextGeneration, Token, rules

if TYPE_CHECKING:
    from cfai import WorkersAI

MODEL: Final = "@cf/meta/llama-3.1-8b-instruct"

_PROMPT: Final = "> "


# Options: their bounds are those of the task's fields.


def _describe_bounds(rule: Rule) -> str:
    match rule.minimum, rule.maximum:
        case None, None:
            return ""
        case low, None:
            return f", at least {low}"
        case None, high:
            return f", at most {high}"
    return f", from {rule.minimum} to {rule.maximum}"


def _bounded_option(name: str, text: str) -> Any:
    rule = rules(TextGeneration)[name]
    return typer.Option(f"--{name.replace('_', '-')}", help=f"{text}{_describe_bounds(rule)}.")


def _check_options(**options: Any) -> dict[str, Any]:
    """Give the options that are set.

    Raises:
        InputError: One is out of bounds.
    """
    fields = rules(TextGeneration)
    chosen = {name: value for name, value in options.items() if value is not None}
    for name, value in chosen.items():
        fields[name].check(value)
    return chosen


def chat(
    prompt: Annotated[
        str | None, typer.Argument(help="The message; if omitted, see above.")
    ] = None,
    *,
    model: Annotated[str, typer.Option("--model", "-m", help="The model's name.")] = MODEL,
    system: Annotated[
        str | None, typer.Option("--system", "-s", help="How the model should behave.")
    ] = None,
    max_tokens: Annotated[
        int | None, _bounded_option("max_tokens", "Maximum length of the answer, in tokens")
    ] = None,
    temperature: Annotated[
        float | None, _bounded_option("temperature", "Higher values are more random")
    ] = None,
    seed: Annotated[
        int | None, _bounded_option("seed", "The same seed gives the same answer")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON per token and for the answer.")
    ] = False,
    local: clients.Local = False,
) -> None:
    """Chat with a model and print the answer while it is generated.

    Without PROMPT, standard input is the prompt. At a terminal, it starts a conversation: Ctrl-C
    stops an answer, Ctrl-D or /exit ends the conversation.
    """
    options = _check_options(max_tokens=max_tokens, temperature=temperature, seed=seed)
    is_conversation = prompt is None and files.stdin_is_terminal()
    message = "" if is_conversation else _read_prompt(prompt)
    if local:
        clients.require(*clients.TEXT, needed_for="text generation on this machine")
        clients.fetch_weights()
    printer = JsonPrinter() if as_json else TextPrinter()
    session = ChatSession(model, system=system, options=options, printer=printer)
    if is_conversation:
        _converse(session, local=local)
    else:
        asyncio.run(_answer_once(session, message, local=local))


def _read_prompt(prompt: str | None) -> str:
    if prompt is None or prompt == "-":
        message = files.read_stdin_text()
    else:
        message = files.check_argument(prompt)
    if not message.strip():
        raise InputError("the prompt must not be empty: give one, or pipe one in")
    return message


async def _answer_once(session: "ChatSession", message: str, *, local: bool) -> None:
    async with clients.open_client(local=local, generates_text=True) as ai:
        await session.send(ai, message)


def _converse(session: "ChatSession", *, local: bool) -> None:
    # The event loop runs only during an answer. Ctrl-C cancels the answer then; at the prompt it
    # is an ordinary KeyboardInterrupt.
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        client = clients.open_client(local=local, generates_text=True)
        ai = runner.run(stack.enter_async_context(client))
        try:
            console.print_notice(
                f"{session.model}. Ctrl-D or /exit leaves, Ctrl-C stops an answer."
            )
            while (line := _next_message()) is not None:
                try:
                    runner.run(session.send(ai, line))
                except KeyboardInterrupt:
                    console.print_notice("(stopped)")
                except CfaiError as exc:
                    console.print_error(exc)
        finally:
            runner.run(stack.aclose())


def _next_message() -> str | None:
    """Read the next line that is not empty; `None` when the user leaves."""
    while True:
        try:
            line = _read_line().strip()
        except EOFError:
            console.print_notice("")
            return None
        except KeyboardInterrupt:
            console.print_notice("\n(Ctrl-D or /exit leaves)")
            continue
        if line in ("/exit", "/quit"):
            return None
        if line:
            return line


def _read_line() -> str:
    if console.stdout_is_terminal():
        with suppress(ImportError):
            import readline  # noqa: F401  # gives `input` a history and line editing
        return input(_PROMPT)
    # `input` would write its prompt into the answers.
    if sys.stderr is not None:
        sys.stderr.write(_PROMPT)
        sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line


class AnswerPrinter(Protocol):
    """Prints an answer while it arrives."""

    def print_token(self, token: Token) -> None:
        """Print what one event adds."""

    def finish(self, answer: Text, *, complete: bool) -> None:
        """Print the end of the answer. *complete* is false if the stream was cut."""


class ChatSession:
    """The messages so far. Of an answer that is cut, the text that arrived is kept."""

    def __init__(
        self, model: str, *, system: str | None, options: Mapping[str, Any], printer: AnswerPrinter
    ) -> None:
        from cfai.conversation import Conversation

        self.model = model
        self._options = options
        self._printer = printer
        messages = Conversation()
        self._messages = messages if system is None else messages.system(system)

    async def send(self, ai: "WorkersAI", message: str) -> None:
        """Send a message and print the answer.

        Raises:
            CfaiError: There is no answer, or only a part of it.
        """
        messages = self._messages.user(message)
        stream = ai.stream(self.model, TextGeneration(messages, **self._options))
        complete = False
        try:
            async with stream as tokens:
                async for token in tokens:
                    self._printer.print_token(token)
            complete = True
        finally:
            answer = stream.answer
            if answer.text:
                self._messages = messages.assistant(answer.text)
            self._printer.finish(answer, complete=complete)


class TextPrinter:
    """Prints the text, and a newline at the end."""

    def print_token(self, token: Token) -> None:
        """Print the text of the token."""
        if token.text:
            console.write_text(token.text)

    def finish(self, answer: Text, *, complete: bool) -> None:
        """Print a newline unless the text ends with one."""
        if answer.text and not answer.text.endswith("\n"):
            console.write_text("\n")
        if complete and answer.finish_reason == "length":
            console.print_notice("(cut at the maximum length; raise it with --max-tokens)")


class JsonPrinter:
    """Prints a line of JSON per token, and one for the answer if it is complete."""

    def print_token(self, token: Token) -> None:
        """Print the line of a token."""
        line = {"token": token.text}
        if token.reasoning:
            line["reasoning"] = token.reasoning
        console.write_text(console.to_json_line(line))

    def finish(self, answer: Text, *, complete: bool) -> None:
        """Print the line of the answer."""
        if complete:
            console.write_text(console.to_json_line({"answer": answer.to_dict()}))
