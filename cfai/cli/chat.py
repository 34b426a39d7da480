"""`cfai chat`: one question, or a conversation at a terminal."""

import asyncio
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from cfai.cli import clients, console, files
from cfai.cli.inputs import (
    AttachedFile,
    attach_option,
    build_content,
    check_reads_attached,
    parse_schema,
)
from cfai.errors import CfaiError, InputError, ParseError

if TYPE_CHECKING:
    from cfai import WorkersAI
    from cfai.cli.answers import AnswerForm
    from cfai.conversation import Conversation
    from cfai.tasks import Text, Token

F = TypeVar("F", bound=Callable[..., Any])

MODEL: Final = "@cf/meta/llama-3.1-8b-instruct-fast"

_PROMPT: Final = "> "


class _BoundedOption(click.Option):
    """Adds the bounds of the task's field to its help."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        from cfai.tasks import TextGeneration, rules
        from cfai.tasks.task import describe_bounds

        bounds = describe_bounds(rules(TextGeneration)[self.name])
        term, text = super().get_help_record(ctx) or ("", "")
        return term, f"{text}, {bounds}." if bounds else f"{text}."


def _bounded_option(name: str, text: str, kind: type) -> Callable[[F], F]:
    return click.option(f"--{name.replace('_', '-')}", type=kind, cls=_BoundedOption, help=text)


def _check_options(model: str, **options: Any) -> dict[str, Any]:
    """Give the options that are set.

    Raises:
        InputError: One is out of bounds, or not known for the model.
    """
    chosen = {name: value for name, value in options.items() if value is not None}
    if not chosen:
        return chosen
    from cfai.profiles import profile
    from cfai.tasks import TextGeneration, rules

    model_profile = profile(model)
    if "thinking" in chosen and not (
        model_profile.thinking_switches or model_profile.always_thinks
    ):
        option = "--thinking" if chosen["thinking"] else "--no-thinking"
        raise InputError(
            f"{option} can't be used with {model}: it is not known how to turn its reasoning on or "
            "off; leave it out, or give `cfai run` a JSON object with the model's own field"
        )
    for name, value in chosen.items():
        rules(TextGeneration)[name].check(value)
    return chosen


def _parse_form(schema: str) -> "AnswerForm":
    from cfai.cli.answers import AnswerForm

    return AnswerForm.of(parse_schema(schema))


@click.command()
@click.argument(
    "prompt",
    required=False,
    help="The message: text, @FILE, or - for stdin; if omitted, see above.",
)
@clients.model_option(MODEL)
@click.option("--system", "-s", help="How the model should behave: text, @FILE, or -.")
@_bounded_option("max_tokens", "Maximum length of the answer, in tokens", int)
@_bounded_option("temperature", "Higher values are more random", float)
@_bounded_option("seed", "The same seed gives the same answer", int)
@click.option(
    "--thinking/--no-thinking", default=None, help="Turn the model's reasoning on or off."
)
@attach_option("An image, a text or a document to go with the (first) message.")
@click.option("--schema", help='The form of the answer: a JSON schema, or "name:str, age:int".')
@click.option(
    "--json", "as_json", is_flag=True, help="Print one line of JSON per token and for the answer."
)
@clients.local_option
def chat(  # noqa: PLR0913  # every option of the command
    prompt: str | None,
    *,
    model: str,
    system: str | None,
    max_tokens: int | None,
    temperature: float | None,
    seed: int | None,
    thinking: bool | None,
    attach: tuple[str, ...],
    schema: str | None,
    as_json: bool,
    local: bool,
) -> None:
    """Chat with a model and print the answer while it is generated.

    PROMPT follows what is piped in; without PROMPT, that is the prompt. At a terminal, no PROMPT
    starts a conversation: Ctrl-C stops an answer, /help lists the commands, Ctrl-D or /exit ends.
    """
    options = _check_options(
        model, max_tokens=max_tokens, temperature=temperature, seed=seed, thinking=thinking
    )
    attached = [AttachedFile.read(name) for name in attach]
    check_reads_attached(model, attached, "-m")
    form = None if schema is None else _parse_form(schema)
    instructions = None if system is None else files.read_text_argument(system, "--system")
    is_conversation = prompt is None and files.stdin_is_terminal()
    message = "" if is_conversation else files.read_prompt(prompt, "PROMPT")
    if not (is_conversation or attached or message.strip()):
        raise InputError("the prompt must not be empty: give one, or pipe one in")
    if local:
        clients.require(*clients.TEXT, needed_for="text generation on this machine")
        clients.fetch_weights()
    session = ChatSession(
        model, system=instructions, options=options, form=form, as_json=as_json, attached=attached
    )
    if is_conversation:
        _converse(session, local=local)
    else:
        asyncio.run(_answer_once(session, message, local=local))


async def _answer_once(session: "ChatSession", message: str, *, local: bool) -> None:
    async with clients.open_client(local=local, generates_text=True) as ai:
        await session.send(ai, message)


def _converse(session: "ChatSession", *, local: bool) -> None:
    # The event loop runs only during an answer. Ctrl-C cancels the answer then; at the prompt it
    # is an ordinary KeyboardInterrupt.
    with asyncio.Runner() as runner, ThreadPoolExecutor(1) as loader:
        stack = AsyncExitStack()

        def open_client() -> "WorkersAI":
            client = clients.open_client(local=local, generates_text=True)
            return runner.run(stack.enter_async_context(client))

        if not local:
            clients.check_account()
        ai = open_client() if local else None
        try:
            console.print_notice(
                f"{session.model}. Ctrl-C stops an answer, /help lists commands, /exit leaves."
            )
            # Importing the client takes longer than all the rest. Meanwhile, the user types.
            read_line = _line_reader(partial(loader.submit, clients.load_client))
            while (line := _next_message(read_line, session)) is not None:
                try:
                    ai = ai or open_client()
                    runner.run(session.send(ai, line))
                except KeyboardInterrupt:
                    console.print_notice("(stopped)")
                except CfaiError as exc:
                    console.print_error(exc)
        finally:
            runner.run(stack.aclose())


_HELP: Final = """\
/system TEXT  set how the model should behave: TEXT or @FILE; without it, remove that
/clear        forget the conversation, but not the instructions
/help         show this
/exit         leave, like Ctrl-D
Enter sends a message; Alt-Enter begins a new line, and so does pasted text."""


# A path has another slash or a dot, and a comment of code a star.
_COMMAND: Final = re.compile(r"/[\w?!-]*")


def _next_message(read_line: Callable[[], str], session: "ChatSession") -> str | None:
    """Read the next message, and carry out commands; `None` when the user leaves."""
    while True:
        try:
            line = read_line().strip()
        except EOFError:
            console.print_notice("")
            return None
        except KeyboardInterrupt:
            console.print_notice("\n(Ctrl-D or /exit leaves)")
            continue
        name, rest = (*line.split(None, 1), "", "")[:2]
        is_pasted = "\n" in line and name != "/system"
        if is_pasted or not _COMMAND.fullmatch(name):
            if line:
                return line
        elif name in ("/exit", "/quit") and not rest:
            return None
        else:
            _run_command(name, rest, session)


def _run_command(name: str, rest: str, session: "ChatSession") -> None:
    match name:
        case "/system":
            _set_system(session, rest.strip())
        case "/exit" | "/quit" | "/clear" | "/help" if rest:
            console.write_stderr(f"{name} takes no text, so nothing was done")
        case "/clear":
            session.clear()
        case "/help":
            console.write_stderr(*_HELP.split("\n"))
        case _:
            console.write_stderr(f"there is no command {name}; /help lists them")


def _set_system(session: "ChatSession", text: str) -> None:
    # Standard input is the conversation itself, so "-" is a text like any other.
    try:
        is_file = text.startswith("@")
        session.set_system(files.read_text_argument(text, "/system") if is_file else text)
    except InputError as exc:
        console.print_error(exc)


def _line_reader(load: Callable[[], object]) -> Callable[[], str]:
    """What reads a message: with line editing at a terminal, otherwise a line.

    *load* is called once the first prompt is shown, or is about to be.
    """
    if console.stdout_is_terminal() and not console.terminal_is_dumb():
        with suppress(ImportError):
            return _edited_line_reader(load)
    load()
    return partial(input, _PROMPT) if console.stdout_is_terminal() else _read_plain_line


def _edited_line_reader(load: Callable[[], object]) -> Callable[[], str]:
    # Pasted lines arrive between two marks ("bracketed paste"), and so are one message.
    from prompt_toolkit import PromptSession
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    keys = KeyBindings()

    @keys.add("escape", "enter")
    def _begin_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    # It would ask the terminal for the position of the cursor, and wait for the answer.
    os.environ["PROMPT_TOOLKIT_NO_CPR"] = "1"
    editor = PromptSession[str](key_bindings=keys)

    def load_once(_: object) -> None:
        editor.app.after_render -= load_once
        load()

    editor.app.after_render += load_once
    return partial(editor.prompt, _PROMPT)


def _read_plain_line() -> str:
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
        self,
        model: str,
        *,
        system: str | None,
        options: Mapping[str, Any],
        form: "AnswerForm | None" = None,
        as_json: bool,
        attached: Sequence[AttachedFile] = (),
    ) -> None:
        self.model = model
        self._options = options
        self._form = form
        self._as_json = as_json
        self.set_system(system)
        self._attached = attached
        self._messages: Conversation | None = None

    def set_system(self, system: str | None) -> None:
        """Change how the model should behave from the next message on."""
        self._system = system if system and system.strip() else None

    def clear(self) -> None:
        """Forget the messages."""
        self._messages = None

    async def send(self, ai: "WorkersAI", message: str) -> None:
        """Send a message and print the answer while it arrives.

        With JSON, each token is a line, and the answer is another one if it is complete.

        Raises:
            CfaiError: There is no answer, or only a part of it.
        """
        from cfai.conversation import Conversation
        from cfai.tasks import TextGeneration, system

        content = await build_content(ai, message, self._attached)
        messages = (self._messages or Conversation()).user(*content)
        instructions = [system(self._system)] if self._system else []
        task = TextGeneration([*instructions, *messages], **self._options)
        if self._form is not None:  # JSON mode does not stream.
            answer = await ai.run(
                self.model, task.replace(response_format=self._form.response_format)
            )
            self._attached, self._messages = (), messages.assistant(answer.text)
            self._print_object(answer, self._form)
            return
        stream, prose = ai.stream(self.model, task), console.Prose()
        try:
            async with stream as tokens:
                async for token in tokens:
                    self._print_token(token, prose)
        finally:
            answer = stream.answer
            if answer.text:
                self._attached, self._messages = (), messages.assistant(answer.text)
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
            reason = answer.hint.partition(":")[0]
            console.print_notice(f"({reason}: try `cfai run`, which does not stream)")
        elif answer.finish_reason == "length":
            console.print_notice("(cut at the maximum length; raise it with --max-tokens)")

    def _print_object(self, answer: "Text", form: "AnswerForm") -> None:
        if self._as_json:
            console.write_text(console.to_json_line({"answer": answer.to_dict()}))
        value, problem = form.choose_value(answer)
        if not self._as_json:
            console.Target(None).write_json(value)
        if problem is not None:
            raise ParseError(f"the answer does not match --schema: {problem}", answer=answer)

    def _print_token(self, token: "Token", prose: console.Prose) -> None:
        if self._as_json:
            reasoning = {"reasoning": token.reasoning} if token.reasoning else {}
            console.write_text(console.to_json_line({"token": token.text, **reasoning}))
        elif token.text:
            prose.write(token.text)
