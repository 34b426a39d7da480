"""`cfai chat`: one question, or a conversation for as long as the user likes."""

import asyncio
import sys
from contextlib import AsyncExitStack, suppress
from typing import Annotated

import typer

from cfai.cli import clients, inputs, notices, options, output
from cfai.cli.conversation import AsJson, AsText, Talk
from cfai.errors import CfaiError, InputError

MODEL = "@cf/meta/llama-3.1-8b-instruct"

_PROMPT = "> "


def chat(
    prompt: Annotated[str | None, typer.Argument(help="What to say; left out: see above.")] = None,
    *,
    model: Annotated[str, typer.Option("--model", "-m")] = MODEL,
    system: Annotated[
        str | None, typer.Option("--system", "-s", help="How the model should behave.")
    ] = None,
    max_tokens: options.MaxTokens = None,
    temperature: options.Temperature = None,
    seed: options.Seed = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="A line of JSON per token, and one for the answer.")
    ] = False,
    local: options.Local = False,
) -> None:
    """Talk to a model, and read the answer as it is written.

    Without PROMPT, what is piped in is the prompt; at a terminal, a conversation begins. There,
    Ctrl-C breaks off an answer, and Ctrl-D or /exit ends the conversation.
    """
    chosen = options.check(max_tokens=max_tokens, temperature=temperature, seed=seed)
    talks = prompt is None and inputs.stdin_is_a_terminal()
    said = "" if talks else _said(prompt)
    if local:
        clients.need(*clients.TEXT, needed_for="text generation on this machine")
        clients.fetch_weights()
    show = AsJson() if as_json else AsText()
    talk = Talk(model, instruction=system, options=chosen, show=show)
    if talks:
        _talk(talk, local=local)
    else:
        asyncio.run(_ask(talk, said, local=local))


def _said(prompt: str | None) -> str:
    said = inputs.stdin_text() if prompt in (None, "-") else inputs.argument(prompt)
    if not said.strip():
        raise InputError("there is nothing to say: give a prompt, or pipe one in")
    return said


async def _ask(talk: Talk, said: str, *, local: bool) -> None:
    async with clients.client(local=local, writes=True) as ai:
        await talk.say(ai, said)


def _talk(talk: Talk, *, local: bool) -> None:
    # The loop runs only while there is an answer: then Ctrl-C cancels that, and at the prompt it
    # is an ordinary KeyboardInterrupt.
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        ai = runner.run(stack.enter_async_context(clients.client(local=local, writes=True)))
        try:
            notices.note(f"{talk.model}. Ctrl-D or /exit leaves, Ctrl-C stops an answer.")
            while (line := _line()) is not None:
                try:
                    runner.run(talk.say(ai, line))
                except KeyboardInterrupt:
                    notices.note("(stopped)")
                except CfaiError as exc:
                    notices.complain(exc)
        finally:
            runner.run(stack.aclose())


def _line() -> str | None:
    """Give the next line that says something; `None` when the user leaves."""
    while True:
        try:
            line = _typed().strip()
        except EOFError:
            notices.note("")
            return None
        except KeyboardInterrupt:
            notices.note("\n(Ctrl-D or /exit leaves)")
            continue
        if line in ("/exit", "/quit"):
            return None
        if line:
            return line


def _typed() -> str:
    if output.stdout_is_a_terminal():
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
