"""`cfai chat`: one question, or a conversation at a terminal."""

import asyncio
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cfai.cli import clients, console, files
from cfai.errors import CfaiError, InputError
from cfai.tasks import TextGeneration, Token, rules
from cfai.tasks.task import describe_bounds

if TYPE_CHECKING:
    from cfai import WorkersAI

MODEL: Final = "@cf/meta/llama-3.1-8b-instruct-fast"

_PROMPT: Final = "> "


def _bounded_option(name: str, text: str) -> Any:
    """Declare an option with the bounds of the task's field."""
    bounds = describe_bounds(rules(TextGeneration)[name])
    return typer.Option(
        f"--{name.replace('_', '-')}", help=f"{text}, {bounds}." if bounds else f"{text}."
    )


def _check_options(**options: Any) -> dict[str, Any]:
    """Give the options that are set.

    Raises:
        InputError: One is out of bounds.
    """
    chosen = {name: value for name, value in options.items() if value is not None}
    for name, value in chosen.items():
        rules(TextGeneration)[name].check(value)
    return chosen


def chat(  # noqa: PLR0913  # every option of the command
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
    thinking: Annotated[
        bool | None,
        typer.Option("--thinking/--no-thinking", help="Turn the model's reasoning on or off."),
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
    options = _check_options(
        max_tokens=max_tokens, temperature=temperature, seed=seed, thinking=thinking
    )
    is_conversation = prompt is None and files.stdin_is_terminal()
    message = "" if is_conversation else _read_prompt(prompt)
    if local:
        clients.require(*clients.TEXT, needed_for="text generation on this machine")
        clients.fetch_weights()
    session = ChatSession(model, system=system, options=options, as_json=as_json)
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
        print(_PROMPT, end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line


class ChatSession:
    """The messages so far. Of an answer that is cut, the text that arrived is kept."""

    def __init__(
        self, model: str, *, system: str | None, options: Mapping[str, Any], as_json: bool
    ) -> None:
        from cfai.conversation import Conversation

        self.model = model
        self._options = options
        self._as_json = as_json
        messages = Conversation()
        self._messages = messages if system is None else messages.system(system)

    async def send(self, ai: "WorkersAI", message: str) -> None:
        """Send a message and print the answer while it arrives.

        With JSON, each token is a line, and the answer is another one if it is complete.

        Raises:
            CfaiError: There is no answer, or only a part of it.
        """
        messages = self._messages.user(message)
        stream = ai.stream(self.model, TextGeneration(messages, **self._options))
        try:
            async with stream as tokens:
                async for token in tokens:
                    self._print_token(token)
        finally:
            answer = stream.answer
            if answer.text:
                self._messages = messages.assistant(answer.text)
                if not (self._as_json or answer.text.endswith("\n")):
                    console.write_text("\n")
        if self._as_json:
            console.write_text(console.to_json_line({"answer": answer.to_dict()}))
        elif answer.hint and answer.finish_reason == "length":
            console.print_notice(
                "(the reasoning used up all tokens; raise them with --max-tokens, or turn it off"
                " with --no-thinking)"
            )
        elif answer.hint:
            console.print_notice(f"({answer.hint})")
        elif answer.finish_reason == "length":
            console.print_notice("(cut at the maximum length; raise it with --max-tokens)")

    def _print_token(self, token: Token) -> None:
        if self._as_json:
            reasoning = {"reasoning": token.reasoning} if token.reasoning else {}
            console.write_text(console.to_json_line({"token": token.text, **reasoning}))
        elif token.text:
            console.write_text(token.text)
