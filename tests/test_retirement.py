"""Retired models: the catalogue, the warning, the error 5028, and no use of them elsewhere."""

import json
import re
import runpy
import subprocess
import sys
import warnings
from collections.abc import Awaitable, Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from cfai import ModelRetired, ModelRetiredWarning, Prompt, StatusError, TextEmbeddings, WorkersAI
from cfai.errors import status_error
from cfai.local import Server
from cfai.profiles import TASKS, models, profile
from cfai.settings import Options, Retries
from cfai.testing import FakeWorkersAI

ROOT = Path(__file__).parents[1]
RETIRED = sorted(model for model in TASKS if profile(model).retired is not None)

# Source: sepandhaghighi/mytext#95, 2026-06-05.
BODY = (
    b'{"errors":[{"message":"AiError: Model has been deprecated: This model was deprecated on '
    b"2026-05-30. Please use an alternative model. (8f4c2a0e-5d0b-4f0e-9a53-0d6a1f2b7c11)"
    b'","code":5028}],"success":false,"result":{},"messages":[]}'
)
SUBMITTED = {"status": "queued", "model": "m", "request_id": "r1"}


# The catalogue


@pytest.mark.parametrize(
    ("model", "day", "successor"),
    [
        ("@cf/meta/llama-3.1-8b-instruct", date(2026, 5, 30), None),
        ("@cf/facebook/bart-large-cnn", date(2026, 5, 30), None),
        ("@cf/moonshotai/kimi-k2.5", date(2026, 5, 30), "@cf/moonshotai/kimi-k2.6"),
        ("@hf/thebloke/llamaguard-7b-awq", date(2025, 10, 1), None),
        ("@cf/meta/llama-3.1-8b-instruct-fast", None, None),
        ("@cf/moonshotai/kimi-k2.6", None, None),
        ("@cf/nobody/nothing", None, None),
    ],
)
def test_what_the_catalogue_knows(model: str, day: date | None, successor: str | None) -> None:
    assert (profile(model).retired, profile(model).successor) == (day, successor)


def test_retired_models_keep_their_task_and_are_not_offered() -> None:
    days = [profile(model).retired for model in RETIRED]
    assert {day: days.count(day) for day in days} == {
        date(2025, 10, 1): 19,
        date(2026, 5, 30): 18,
    }
    for model in RETIRED:
        assert model not in models(TASKS[model])


def test_successors_are_live() -> None:
    for model in RETIRED:
        successor = profile(model).successor
        assert successor is None or (successor in TASKS and successor not in RETIRED)


@pytest.mark.parametrize(
    "model",
    [
        "@cf/zai-org/glm-4.7-flash",
        "@cf/google/gemma-4-26b-a4b-it",
        "@cf/moonshotai/kimi-k2.6",
        "@cf/meta/llama-3.3-70b-instruct-fp8-fast",
        "@cf/meta/llama-3.1-8b-instruct-fast",
        "@cf/google/gemma-7b-it-lora",
        "@cf/google/gemma-2b-it-lora",
        "@cf/mistral/mistral-7b-instruct-v0.2-lora",
        "@cf/meta-llama/llama-2-7b-chat-hf-lora",
    ],
)
def test_recommended_and_remaining_models_are_live(model: str) -> None:
    """Source: Cloudflare docs, Workers AI changelog, 2026-05-08."""
    assert model in models("Text Generation")


CATALOGUE = """\
_MODELS = {
    "Automatic Speech Recognition": \"\"\"
        @cf/a/carded
    \"\"\",
    "Text Embeddings": \"\"\"
        @cf/a/shared
    \"\"\",
    "Text Generation": \"\"\"
        @cf/a/active
        @cf/a/chat text
        @cf/a/new text
        @cf/a/old
        @cf/a/sees images
    \"\"\",
}
_RETIRED = {
    "2026-05-30": \"\"\"
        @cf/a/old
    \"\"\",
}
_SUCCESSORS = {
    "@cf/a/old": "@cf/a/new",
}
"""


def own_class(inputs: str) -> dict[str, Any]:
    return {"class": "Base_Ai_Cf_A", "declaration": "", "types": {"Input": inputs}}


def test_the_script_that_makes_the_catalogue(tmp_path: Path) -> None:
    """A task comes from the card, the shared class, or the model's own type, in that order.

    Whether a chat model reads images comes from its own type.
    """
    script = runpy.run_path(str(ROOT / "docs" / "catalogue.py"))
    script["collect"].__globals__["OTHER_MODELS"] = {}
    types = {
        "@cf/a/carded": own_class("audio: string"),
        "@cf/a/shared": {"class": "BaseAiTextEmbeddings", "declaration": "", "types": {}},
        "@cf/a/chat": own_class("messages: object[]"),
        "@cf/a/new": own_class("messages?: object[]"),
        "@cf/a/sees": own_class("messages: { image_url?: string }[]"),
    }
    retired = {
        "source": "changelog",
        "2026-05-30": ["@cf/a/old (aliased to @cf/a/new)"],
        "stay_active": ["@cf/a/active"],
    }
    cards = {"carded.json": {"name": "@cf/a/carded", "task": "Automatic Speech Recognition"}}
    assert script["collect"]({"models": types}, retired, cards) == CATALOGUE
    # As Cloudflare publishes them: a file for each model, whose task is an object.
    card = {"name": "@cf/a/carded", "task": {"id": "1", "name": "Automatic Speech Recognition"}}
    (tmp_path / "carded.json").write_text(json.dumps(card))
    (tmp_path / "other.json").write_text("{}")
    cards = script["read"](tmp_path)
    assert script["collect"]({"models": types}, retired, cards) == CATALOGUE
    types["@cf/a/odd"] = own_class("anything: number")
    with pytest.raises(SystemExit, match="add the task of @cf/a/odd to OTHER_MODELS"):
        script["collect"]({"models": types}, retired, cards)


# The error


@pytest.mark.parametrize(("status", "reported"), [(410, 410), (400, 400), (200, 410)])
async def test_5028_is_never_retried_and_names_the_day(
    fake: FakeWorkersAI, status: int, reported: int
) -> None:
    fake.always.says(BODY, status=status, content_type="application/json")
    with pytest.raises(ModelRetired) as caught:
        await fake.client(retries=Retries(max=3)).run("@cf/new/but-old", Prompt("Hi"))
    error = caught.value
    assert len(fake.requests) == 1
    assert isinstance(error, StatusError)
    assert (error.status, error.code) == (reported, 5028)
    assert (error.model, error.retired) == ("@cf/new/but-old", date(2026, 5, 30))
    assert error.successor is None
    assert str(error).endswith(
        "\n@cf/new/but-old was retired on 2026-05-30: use another model (`cfai models` lists them)."
    )


@pytest.mark.parametrize(
    ("message", "day"),
    [
        ("This model was deprecated on 2026-05-30. Please", date(2026, 5, 30)),
        ("deprecated on 2026-13-30", None),
        ("deprecated on 2026-05-301", None),
        ("deprecated recently", None),
        ("", None),
    ],
)
def test_the_day_in_the_message(message: str, day: date | None) -> None:
    error = status_error(410, 5028, message)
    assert isinstance(error, ModelRetired)
    assert error.retired == day
    assert error.hint is not None
    assert error.hint.startswith(f"The model was retired{f' on {day}' if day else ''}: use another")


async def run(ai: WorkersAI, model: str) -> None:
    await ai.run(model, Prompt("Hi"))


async def run_mapping(ai: WorkersAI, model: str) -> None:
    await ai.run(model, {"prompt": "Hi"})


async def stream(ai: WorkersAI, model: str) -> None:
    async with ai.stream(model, Prompt("Hi")):
        pass


async def embed(ai: WorkersAI, model: str) -> None:
    await ai.embed(model, ["Hi"])


async def queue(ai: WorkersAI, model: str) -> None:
    await ai.queue(model, [TextEmbeddings("Hi")])


Call = Callable[[WorkersAI, str], Awaitable[None]]
CALLS: list[Call] = [run, run_mapping, stream, embed, queue]


@pytest.mark.parametrize("call", CALLS)
async def test_the_catalogue_completes_the_error(fake: FakeWorkersAI, call: Call) -> None:
    """If the message has no date, the catalogue has it, and the successor."""
    fake.always.fails(400, 5028, "Model has been deprecated")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ModelRetiredWarning)
        with pytest.raises(ModelRetired) as caught:
            await call(fake.client(), "@cf/moonshotai/kimi-k2.5")
    assert caught.value.retired == date(2026, 5, 30)
    assert caught.value.successor == "@cf/moonshotai/kimi-k2.6"
    assert str(caught.value).endswith(
        "\n@cf/moonshotai/kimi-k2.5 was retired on 2026-05-30: use @cf/moonshotai/kimi-k2.6."
    )


@pytest.mark.parametrize("before", [b"", b'data: {"response":"a"}\n\n'])
async def test_a_retired_model_in_an_event(fake: FakeWorkersAI, before: bytes) -> None:
    """The first event, or one after it."""
    fake.says(before, b"data: ", BODY, b"\n\n", content_type="text/event-stream")
    with pytest.raises(ModelRetired) as caught:
        await fake.client().stream("@cf/new/but-old", "Hi").collect()
    assert caught.value.model == "@cf/new/but-old"
    assert "@cf/new/but-old was retired on 2026-05-30" in str(caught.value)


async def test_a_retired_model_in_one_item_of_a_batch(fake: FakeWorkersAI) -> None:
    item = {"id": 0, "success": False, "error": {"code": 5028, "message": "deprecated"}}
    fake.answers(SUBMITTED).answers({"responses": [item], "usage": {}})
    batch = await fake.client().queue("@cf/new/but-old", [Prompt("Hi")])
    (result,) = [result async for result in batch]
    assert isinstance(result.error, ModelRetired)
    assert result.error.model == "@cf/new/but-old"


async def test_a_retired_model_ends_an_embedding_job(fake: FakeWorkersAI) -> None:
    """Every other text would fail in the same way."""
    texts = [f"text {number}" for number in range(1000)]
    fake.always.says(BODY, status=410, content_type="application/json")
    with pytest.raises(ModelRetired):
        async for _ in fake.client().embed_many("@cf/new/but-old", texts, concurrency=1):
            pass
    assert len(fake.requests) == 1


# The local server


@pytest.mark.parametrize("model", RETIRED)
async def test_the_local_server_refuses_retired_models(model: str) -> None:
    """With the recorded answer of the service, unless no live model has the task."""
    headers = {"Authorization": "Bearer any"}
    async with Server() as server, ClientSession(headers=headers) as http:
        url = f"{server.base_url}/accounts/0/ai/run/{model}"
        async with http.post(url, json={"input_text": "One. Two."}) as response:
            status, document = response.status, await response.json()
    if not models(TASKS[model]):
        assert status == 200
        return
    assert status == 410
    (error,) = document["errors"]
    (recorded,) = json.loads(BODY)["errors"]
    assert document == {**json.loads(BODY), "errors": [error]}
    assert error["code"] == recorded["code"]
    ids = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
    assert ids.sub("ID", error["message"]) == ids.sub("ID", recorded["message"]).replace(
        "2026-05-30", str(profile(model).retired)
    )


# The warning


@pytest.mark.parametrize(("call", "model"), list(zip(CALLS, RETIRED, strict=False)))
async def test_each_call_warns_once(fake: FakeWorkersAI, call: Call, model: str) -> None:
    """The warning points at the caller's line, not into the SDK."""
    fake.always.fails(410, 5028, "Model has been deprecated")
    ai = fake.client()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            with pytest.raises(ModelRetired):
                await call(ai, model)
    (warning,) = caught
    assert warning.category is ModelRetiredWarning
    assert str(warning.message) == (
        f"{model} was retired on {profile(model).retired}: use another model"
    )
    assert warning.filename == __file__


async def test_a_live_model_does_not_warn(fake: FakeWorkersAI) -> None:
    fake.always.answers({"response": "Hi"})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        await fake.client().run("@cf/meta/llama-3.1-8b-instruct-fast", Prompt("Hi"))
        await fake.client().run("@cf/nobody/nothing", Prompt("Hi"), options=Options(tags=["a"]))
    assert not caught


async def test_a_warning_that_is_an_error_stops_every_call(fake: FakeWorkersAI) -> None:
    """Nothing is sent."""
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(ModelRetiredWarning):
                await fake.client().run(RETIRED[-1], Prompt("Hi"))
    assert not fake.requests


def test_the_warning_is_shown_by_default() -> None:
    code = (
        "import asyncio\n"
        "from cfai import Prompt\n"
        "from cfai.testing import FakeWorkersAI\n"
        "async def main():\n"
        "    async with FakeWorkersAI() as fake:\n"
        "        fake.always.answers({'response': 'Hi'})\n"
        "        for _ in range(3):\n"
        f"            await fake.client().run({RETIRED[0]!r}, Prompt('Hi'))\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr.count(f"ModelRetiredWarning: {RETIRED[0]} was retired on") == 1


# Nothing of ours uses a retired model

CATALOGUE_REGION = re.compile(r"^# <catalogue>.*?^# </catalogue>$", re.MULTILINE | re.DOTALL)
TEXT_SUFFIXES = {".md", ".py", ".pyi", ".html", ".js", ".json", ".toml", ".txt", ".ts"}
FILES = [
    ROOT / "README.md",
    ROOT / "pyproject.toml",
    *(
        path
        for folder in ("cfai", "docs", "tests")
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in TEXT_SUFFIXES and "_build" not in path.parts
    ),
]
NAMES = re.compile(
    "|".join(re.escape(model.partition("/")[2]) for model in RETIRED).join(["(?:", r")(?![\w\-])"])
)


RECORDED = ("model_inputs.json", "model_outputs.json")
MAY_NAME_THEM = {
    Path(__file__),
    ROOT / "tests" / "test_profiles.py",
    *(ROOT / "tests" / "wire" / name for name in RECORDED),
}
"""Besides the catalogue: this file, what is known of each model, and the recorded types of all."""


def test_no_retired_model_is_used() -> None:
    """In the README, the docs, the package and the tests."""
    uses = []
    for path in FILES:
        if path in MAY_NAME_THEM:
            continue
        # Some test data are in other encodings.
        text = path.read_text(encoding="utf-8", errors="replace")
        text = CATALOGUE_REGION.sub("", text).replace("%2F", "/")
        uses += [f"{path.relative_to(ROOT)}: {name}" for name in NAMES.findall(text)]
    assert uses == []


@pytest.mark.parametrize("model", RETIRED)
def test_what_counts_as_a_use(model: str) -> None:
    """The rule above detects violations."""
    for text in (model, f'"{model}"', f"{model}.", json.dumps({"model": model})):
        assert NAMES.search(text)
    assert not NAMES.search(f"{model}-lora")
