"""`cfai models` and `cfai finetunes`: lines in a pipe, tables at a terminal."""

import json
from pathlib import Path
from typing import Any

import pytest

from cfai.testing import FakeWorkersAI

from .conftest import needs_terminals
from .processes import PATIENCE, Cfai

ID = "182bd5e5-6e1a-4fe4-a799-aa6d9a6ab26e"
PIRATE = {"id": ID, "model": "@cf/a/b", "name": "pirate", "description": "Says\tArr"}
LLAMA = {
    "name": "@cf/meta/llama",
    "task": {"name": "Text Generation"},
    "properties": [
        {"property_id": "context_window", "value": "24000"},
        {"property_id": "price", "value": [{"unit": "per step", "price": 0.5, "currency": "USD"}]},
    ],
}
LORA: dict[str, Any] = {"r": 8, "model_type": "llama"}


def adapter(folder: Path, config: dict[str, Any] = LORA) -> Path:
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    weights = len(header).to_bytes(8, "little") + header + bytes(8)
    (folder / "adapter_model.safetensors").write_bytes(weights)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


async def test_models_in_lines(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """Cells with tabs between them, or the service's rows as JSON."""
    fake.always.answers([LLAMA])
    done = await cfai.run("models", "search", "llama", "--task", "Text Generation")
    assert (done.code, done.err) == (0, "")
    assert done.text == "@cf/meta/llama\tText Generation\t24000\t\t0.5 USD per step\n"
    assert fake.requests[0].query == {"search": "llama", "task": "Text Generation"}
    done = await cfai.run("models", "search", "--json")
    assert [json.loads(line) for line in done.lines] == [LLAMA]


@pytest.mark.parametrize(
    ("arguments", "query"),
    [
        ([], {}),
        (["llama"], {"search": "llama"}),
        (["--task", "Translation", "m2m"], {"search": "m2m", "task": "Translation"}),
        (["search", "tasks"], {"search": "tasks"}),
    ],
)
async def test_models_search_is_the_default(
    cfai: Cfai, fake: FakeWorkersAI, arguments: list[str], query: dict[str, str]
) -> None:
    """An argument that is not a command is searched for."""
    fake.always.answers([LLAMA])
    done = await cfai.run("models", *arguments)
    assert (done.code, done.err) == (0, "")
    assert fake.requests[0].path.endswith("/ai/models/search")
    assert fake.requests[0].query == query


async def test_models_help_lists_all_commands(cfai: Cfai) -> None:
    done = await cfai.run("models", "--help")
    assert "schema" in done.text


@needs_terminals
async def test_models_in_a_table(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """At a terminal, the columns have headers."""
    fake.always.answers([LLAMA])
    async with cfai.at_a_terminal("models", "search") as terminal:
        await terminal.shows("context")
        await terminal.shows("@cf/meta/llama")


async def test_a_schema_and_the_tasks(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """They are printed as the service sent them."""
    fake.answers({"input": {"type": "object"}, "output": {}})
    done = await cfai.run("models", "schema", "@cf/a/b")
    assert json.loads(done.text) == {"input": {"type": "object"}, "output": {}}
    fake.always.answers([{"name": "Translation", "description": "From one\nto another"}])
    assert (await cfai.run("models", "tasks")).text == "Translation\tFrom one to another\n"
    fake.always.answers([{"name": "meta"}])
    assert (await cfai.run("models", "authors")).text == "meta\n"


async def test_finetunes_list_public_and_create(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """Each row is one line, even with tabs or newlines in a cell."""
    fake.answers([PIRATE])
    assert (await cfai.run("finetunes", "list")).text == f"{ID}\tpirate\t@cf/a/b\tSays Arr\n"
    fake.answers([PIRATE]).answers([])
    done = await cfai.run("finetunes", "public", "--order-by", "name", "--json")
    assert [json.loads(line) for line in done.lines] == [PIRATE]
    assert fake.requests[1].query == {"orderBy": "name"}
    fake.answers([PIRATE])
    done = await cfai.run("finetunes", "public", "--limit", "2", "--offset", "3")
    assert fake.requests[-1].query == {"limit": "2", "offset": "3"}
    fake.answers(PIRATE)
    done = await cfai.run("finetunes", "create", "@cf/a/b", "pirate", "--description", "Arr")
    assert done.text == f"{ID}\n"
    sent = {"model": "@cf/a/b", "name": "pirate", "description": "Arr"}
    assert fake.requests[-1].json() == sent
    fake.answers(PIRATE)
    done = await cfai.run("finetunes", "create", "@cf/a/b", "pirate", "--public", "--json")
    assert json.loads(done.text) == PIRATE
    assert fake.requests[-1].json()["public"] is True


async def test_finetunes_upload(cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path) -> None:
    """A folder is checked before anything is sent; a single file is sent unchecked."""
    fake.always.says(b'{"success":true}')
    done = await cfai.run("finetunes", "upload", "pirate", str(adapter(tmp_path)))
    assert (done.code, done.out, done.err) == (0, b"", "")
    assert len(fake.requests) == 2
    path = str(tmp_path / "adapter_config.json")
    assert (await cfai.run("finetunes", "upload", ID, path, "--name", "other")).code == 0
    assert b"\r\n\r\nother\r\n" in fake.requests[-1].body
    adapter(tmp_path, {"r": 64})
    for arguments in ((str(tmp_path),), (str(tmp_path), "--name", "a"), ("nowhere",)):
        done = await cfai.run("finetunes", "upload", ID, *arguments)
        assert done.code == 2
        assert done.err.startswith("error: ")
    assert len(fake.requests) == 3


async def test_finetunes_upload_json(cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path) -> None:
    """One line per file."""
    fake.answers({"id": "1"}).says(b'{"success":true}')
    done = await cfai.run("finetunes", "upload", "pirate", str(adapter(tmp_path)), "--json")
    assert done.text == '{"id":"1"}\n{}\n'


@needs_terminals
async def test_ids_are_never_cut(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """Other commands need the id, however narrow the terminal is."""
    wordy = {**PIRATE, "model": "@cf/" + "m" * 50, "description": "Arr " * 40}
    fake.always.answers([wordy])
    async with cfai.at_a_terminal("finetunes", "list") as terminal:
        await terminal.shows(ID)


@needs_terminals
async def test_upload_progress_at_a_terminal(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path
) -> None:
    """The progress is shown in bytes."""
    fake.always.says(b'{"success":true}')
    async with cfai.at_a_terminal("finetunes", "upload", ID, str(adapter(tmp_path))) as terminal:
        await terminal.shows("uploading")
        await terminal.shows("bytes")
        await fake.until(lambda: len(fake.requests) == 2, within=PATIENCE)


@needs_terminals
async def test_an_upload_is_shown_at_a_terminal(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path
) -> None:
    """With the name of the file as it is, though Rich knows marks in brackets."""
    file = tmp_path / "[red]x.safetensors"
    file.write_bytes(b"0123456789")
    fake.answers({"id": ID, "file_name": file.name})
    async with cfai.at_a_terminal("finetunes", "upload", ID, str(file)) as terminal:
        await terminal.shows("uploading [red]x.safetensors")
        assert await terminal.ended() == 0, terminal.screen
    assert len(fake.requests) == 1


@needs_terminals
@pytest.mark.parametrize("length", [59, 60, 61, 200])
async def test_long_cells_are_cut_at_a_terminal(
    cfai: Cfai, fake: FakeWorkersAI, length: int
) -> None:
    """At 60 characters with a mark, but never the first column. A pipe gets all."""
    text = "d" * (length - 1) + "e"
    fake.always.answers([PIRATE | {"description": text}])
    async with cfai.at_a_terminal("finetunes", "list", columns=300) as terminal:
        assert await terminal.ended() == 0
    cell = terminal.screen.split()[-1]
    assert cell == (text if length <= 60 else "d" * 59 + "…")
    assert (await cfai.run("finetunes", "list")).text.endswith(f"\t{text}\n")


@needs_terminals
async def test_names_do_not_control_the_terminal(cfai: Cfai, fake: FakeWorkersAI) -> None:
    row = {"name": "@cf/\x1b[31ma", "task": {"name": "Te\x07xt \x1b[0m[red]"}}
    fake.always.answers([row])
    async with cfai.at_a_terminal("models", columns=200, TERM="dumb") as terminal:
        assert await terminal.ended() == 0
    assert terminal.screen.splitlines()[1].split() == ["@cf/[31ma", "Text", "[0m[red]"]


async def test_all_columns_of_a_model(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """A missing task, window or unit is empty, and several prices are a list."""
    prices = [
        {"unit": "per M input tokens", "price": 0.293, "currency": "$"},
        {"unit": None, "price": 12, "currency": None},
    ]
    fake.always.answers(
        [
            {
                "name": "@cf/a/b",
                "properties": [
                    {"property_id": "lora", "value": "true"},
                    {"property_id": "price", "value": prices},
                ],
            }
        ]
    )
    done = await cfai.run("models", "--author", "a")
    assert done.text == "@cf/a/b\t\t\tyes\t0.293 $ per M input tokens, 12\n"
    assert fake.requests[0].query == {"author": "a"}
