"""The version, the help, usage errors, and the message about a missing extra."""

import os
import re
import subprocess
import sys

import pytest

from cfai import __version__
from cfai.tasks import TextGeneration, rules
from cfai.testing import FakeWorkersAI
from tests.stubs import COMMANDS, commands_text

from .processes import COMMAND, Cfai, environment

_COMMANDS = (
    "demo",
    "chat",
    "run",
    "embed",
    "transcribe",
    "listen",
    "image",
    "speak",
    "decide",
    "extract",
    "models",
    "finetunes",
    "markdown",
    "queue",
    "serve",
    "pull",
)


def python(code: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment(), check=False, timeout=60
    )


async def test_version(stranger: Cfai) -> None:
    """`--version` prints the installed version."""
    done = await stranger.run("--version")
    assert (done.code, done.text, done.err) == (0, f"cfai {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "commands"),
    [((), _COMMANDS), (("queue",), ("submit", "wait")), (("finetunes",), ("create", "upload"))],
)
async def test_without_a_command_help_is_printed(
    stranger: Cfai, arguments: tuple[str, ...], commands: tuple[str, ...]
) -> None:
    """Help lists the commands, and the exit code is 0."""
    done = await stranger.run(*arguments)
    assert (done.code, done.err) == (0, "")
    for command in commands:
        assert re.search(rf"^ +{command} ", done.text, re.MULTILINE)


async def test_help_shows_the_bounds_of_the_task(stranger: Cfai) -> None:
    """The bounds in `--help` are those of the task's rules."""
    rule = rules(TextGeneration)["temperature"]
    done = await stranger.run("chat", "--help")
    assert f"between {rule.minimum} and {rule.maximum}" in " ".join(done.text.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ("chatter",),
        ("chat", "--max-tokens", "many", "hi"),
        ("chat", "--api-token", "secret", "hi"),
        ("serve", "--port", "65536"),
        ("run",),
    ],
)
async def test_usage_errors(stranger: Cfai, arguments: tuple[str, ...]) -> None:
    """A line with the reason, one with the help command, exit code 2. No option takes a token."""
    done = await stranger.run(*arguments)
    error, hint = done.err.splitlines()
    assert done.code == 2
    assert done.out == b""
    assert error.startswith("error: ")
    assert hint.startswith("hint: cfai ")
    assert hint.endswith(" --help")


def test_a_missing_extra_is_named() -> None:
    """Without click and rich, one line names the `pip install`."""
    done = python("import sys; sys.modules['click'] = None; import cfai.__main__ as it; it.main()")
    assert done.returncode == 2
    assert done.stderr == "error: the command line needs an extra: pip install 'cfai-sdk[cli]'\n"


def test_other_import_errors_are_not_reported_as_a_missing_extra() -> None:
    """Only the extra's libraries are reported as missing."""
    done = python(
        "import sys; sys.modules['cfai.errors'] = None; import cfai.__main__; cfai.__main__.main()"
    )
    assert "ModuleNotFoundError" in done.stderr
    assert "pip install" not in done.stderr


def test_ctrl_c_during_import() -> None:
    """Ctrl-C exits with 130 and without a traceback, however early."""
    done = python(
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "class Early:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'cfai.cli': signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Early())\n"
        "from cfai.__main__ import main; main()"
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_help_imports_no_command_and_no_heavy_library() -> None:
    """`--help` must be quick. A command imports its own module only."""
    code = (
        "import sys; sys.argv = ['cfai', *{}]\n"
        "from cfai.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(*sys.modules)"
    )
    modules = {"cfai.tasks", "cfai.profiles", "cfai.settings", "cfai.workers_ai", "cfai.local"}
    libraries = {"aiohttp", "cattrs", "httpx", "numpy", "onnxruntime", "orjson", "xllamacpp"}
    commands = {f"cfai.cli.{name}" for name in ("chat", "run", "embed", "lists", "serve", "queue")}
    loaded = set(python(code.format(["--help"])).stdout.split())
    assert not loaded & {*modules, *libraries, *commands, "pydantic", "rich", "asyncio"}
    loaded = set(python(code.format(["chat", "--help"])).stdout.split())
    assert loaded & commands == {"cfai.cli.chat"}
    assert not loaded & {*libraries, "cfai.workers_ai", "cfai.local", "prompt_toolkit"}


def test_chat_shows_its_prompt_before_it_imports_the_client() -> None:
    """What a conversation needs until then: line editing, and the check of the account."""
    code = (
        "import os, sys\n"
        "os.environ.update(CLOUDFLARE_ACCOUNT_ID='a', CLOUDFLARE_API_TOKEN='t')\n"
        "import cfai.cli.chat as it, prompt_toolkit\n"
        "it.clients.check_account(); it.ChatSession('m', system=None, options={}, as_json=False)\n"
        "print(*sys.modules)"
    )
    loaded = set(python(code).stdout.split())
    assert "cfai.cli.chat" in loaded
    libraries = {"aiohttp", "cattrs", "httpx", "orjson", "rich", "pydantic", "jsonschema"}
    own = {
        "cfai.workers_ai",
        "cfai.tasks",
        "cfai.profiles",
        "cfai.conversation",
        "cfai._wire.bodies",
    }
    assert not loaded & {*libraries, *own}


@pytest.mark.parametrize("command", _COMMANDS)
async def test_every_command_has_help(stranger: Cfai, command: str) -> None:
    """Its line in the list of commands is about the same command."""
    listed = (await stranger.run("--help")).text
    assert re.search(rf"^ +{command} +[A-Z]", listed, re.MULTILINE)
    done = await stranger.run(command, "--help")
    assert (done.code, done.err) == (0, "")
    assert done.text.startswith(f"Usage: cfai {command} ")
    assert "╭" not in done.text


def test_python_m_cfai_is_the_command() -> None:
    """`python -m cfai` is `cfai`."""
    assert COMMAND[-2:] == ("-m", "cfai")
    script = subprocess.run(
        [*COMMAND, "--help"], capture_output=True, text=True, check=True, env=environment()
    )
    assert script.stdout.startswith("Usage: cfai ")


@pytest.mark.parametrize("flag", ["-v", "--verbose"])
async def test_verbose_logs_each_request(cfai: Cfai, fake: FakeWorkersAI, flag: str) -> None:
    """On standard error; without it, nothing is logged."""
    fake.always.streams("Hi")
    loud, quiet = await cfai.run(flag, "chat", "Hello?"), await cfai.run("chat", "Hello?")
    assert (loud.code, loud.text, quiet.code, quiet.err) == (0, "Hi\n", 0, "")
    assert re.search(r"cfai DEBUG POST /accounts/\*\*\*/ai/run/\S+: 200 in ", loud.err)


@pytest.mark.parametrize("arguments", [["-h"], ["chat", "-h"], ["models", "list", "-h"]])
async def test_help_has_a_short_option(stranger: Cfai, arguments: list[str]) -> None:
    done = await stranger.run(*arguments)
    assert (done.code, done.err) == (0, "")
    assert done.text.startswith("Usage: cfai") or " cfai " in done.text


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_a_shell_can_complete_commands(shell: str) -> None:
    """A script for the shell, which asks `cfai` for what a line can go on with."""
    done = await Cfai({"_CFAI_COMPLETE": f"{shell}_source"}).run()
    assert (done.code, done.err) == (0, "")
    assert f"_CFAI_COMPLETE={shell}_complete" in done.text


@pytest.mark.parametrize(
    "line",
    [
        "cfai chat -a no",
        "cfai run @cf/a/b --attach no",
        "cfai extract -a no",
        "cfai markdown no",
        "cfai markdown a.html no",
        "cfai transcribe no",
        "cfai listen no",
        "cfai embed no",
        "cfai embed --checkpoint no",
        "cfai embed -o no",
        "cfai queue submit @cf/a/b no",
    ],
)
async def test_a_shell_completes_the_names_of_files(line: str) -> None:
    position = str(len(line.split()) - 1)
    shell = {"_CFAI_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": position}
    done = await Cfai(shell).run()
    assert done.lines == ["file,no"], done.err


@pytest.mark.parametrize("arguments", [["-h"], ["chat", "--help"], ["models", "-h"], ["--version"]])
def test_help_that_nobody_reads_exits_with_141(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*COMMAND, *arguments],
        stdout=writer,
        stderr=subprocess.PIPE,
        env=environment(),
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("cfai ch", ["chat"]),
        ("cfai chat --sch", ["--schema"]),
        ("cfai models s", ["schema", "search"]),
        ("cfai models --ta", ["--task"]),
        ("cfai models llama --ta", ["--task"]),
        ("cfai queue s", ["submit"]),
    ],
)
async def test_what_a_shell_completes(line: str, completed: list[str]) -> None:
    """Also where the name of a command, here `search`, can be omitted."""
    position = str(len(line.split()) - 1)
    shell = {"_CFAI_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": position}
    done = await Cfai(shell).run()
    assert done.lines == [f"plain,{name}" for name in completed], done.err


def test_no_option_changes_unnoticed() -> None:
    """Names, types, bounds and defaults of all arguments and options.

    A change breaks scripts: write it into the changelog, and run `python -m tests.stubs`.
    """
    expected = COMMANDS.read_text(encoding="utf-8").splitlines()
    current = commands_text().splitlines()
    assert sorted(set(current) - set(expected)) == sorted(set(expected) - set(current)) == []


async def test_help_names_the_defaults_of_options(stranger: Cfai) -> None:
    done = await stranger.run("chat", "--help")
    assert "[default: @cf/meta/llama-3.1-8b-instruct-fast]" in " ".join(done.text.split())
