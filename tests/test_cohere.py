"""Cohere's fine-tuning over a real socket: the documented bytes, and what goes out for them."""

import pickle
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from math import inf, isnan
from traceback import format_exception
from typing import Any

import pytest

import cfai
from cfai.cohere import (
    BaseModel,
    BaseType,
    Cohere,
    Event,
    FinetunedModel,
    Hyperparameters,
    LoraTargetModules,
    Settings,
    Status,
    TrainingStepMetrics,
    WandbConfig,
)
from cfai.errors import (
    AuthenticationError,
    BadRequest,
    CfaiError,
    ConfigError,
    ConnectionLost,
    DecodeError,
    InputError,
    NotFound,
    PermissionDenied,
    RateLimited,
    ServerError,
    StatusError,
)
from cfai.settings import Gateway, Options, Retries
from cfai.testing import FakeCohere

# Cohere API, "Lists fine-tuned models".
LISTED = b"""{
  "finetuned_models": [
    {
      "name": "chat-ft",
      "settings": {
        "base_model": {
          "base_type": "BASE_TYPE_CHAT",
          "name": "medium",
          "version": "14.2.0",
          "strategy": "STRATEGY_TFEW"
        },
        "dataset_id": "my-dataset-d701tr",
        "hyperparameters": {
          "early_stopping_patience": 6,
          "early_stopping_threshold": 0.01,
          "train_batch_size": 16,
          "train_epochs": 1,
          "learning_rate": 0.01
        }
      },
      "id": "fee37446-7fc7-42f9-a026-c6ba2fcc422d",
      "creator_id": "7a317d97-4d05-427d-9396-f31b9fb92c55",
      "organization_id": "6bdca3d5-3eae-4de0-ac34-786d8063b7ee",
      "status": "STATUS_READY",
      "created_at": "2024-01-15T09:30:00Z",
      "updated_at": "2024-01-15T09:30:00Z",
      "completed_at": "2024-01-15T09:30:00Z"
    },
    {
      "name": "rerank-ft",
      "settings": {
        "base_model": {
          "base_type": "BASE_TYPE_RERANK",
          "name": "english",
          "version": "2.0.0",
          "strategy": "STRATEGY_VANILLA"
        },
        "dataset_id": "rerank-dataset-d820xf"
      },
      "id": "9d927c5e-7598-4772-98b7-cdf2014e8874",
      "creator_id": "7a317d97-4d05-427d-9396-f31b9fb92c55",
      "organization_id": "6bdca3d5-3eae-4de0-ac34-786d8063b7ee",
      "status": "STATUS_READY",
      "created_at": "2024-01-15T09:30:00Z",
      "updated_at": "2024-01-15T09:30:00Z",
      "completed_at": "2024-01-15T09:30:00Z"
    }
  ]
}"""
ONE = (
    b'{"finetuned_model":{"name":"rerank-ft","settings":{"base_model":{"base_type":'
    b'"BASE_TYPE_RERANK"},"dataset_id":"d"},"id":"m-1","status":"STATUS_QUEUED"}}'
)
MOMENT = datetime(2024, 1, 15, 9, 30, tzinfo=UTC)
MODEL = "9d927c5e-7598-4772-98b7-cdf2014e8874"
RERANK = Settings(BaseModel(BaseType.RERANK), "rerank-dataset-d820xf")
WANDB_KEY = "wandb-0123456789abcdef"
TRACKED = Settings(BaseModel("BASE_TYPE_CHAT"), "d", wandb=WandbConfig("p", WANDB_KEY))
NEVER = Retries(max=0)
AT_ONCE = Retries(max=2, base=0)
PATH = "/v1/finetuning/finetuned-models"


@pytest.fixture
async def fake() -> AsyncIterator[FakeCohere]:
    async with FakeCohere() as fake:
        yield fake


def client_of(fake: FakeCohere, **options: Any) -> Cohere:
    with pytest.warns(DeprecationWarning, match="2025-09-15"):
        return fake.client(**options)


# What it says of itself


def test_making_a_client_says_what_cohere_announced() -> None:
    """One warning a client, that names the day and points at who made it."""
    with pytest.warns(DeprecationWarning, match="retired") as caught:
        Cohere(api_key="key")
    (warning,) = caught
    assert "deprecated fine-tuning on 2025-09-15" in str(warning.message)
    assert "will no longer be accessible" in str(warning.message)
    assert warning.filename == __file__


def test_python_shows_it_once() -> None:
    """As it shows any warning, and none for an import."""
    code = (
        "from cfai import *; import cfai.cohere, cfai.testing; Cohere.get\n"
        "for _ in range(3): Cohere(api_key='key')"
    )
    run = subprocess.run(
        [sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True
    )
    assert run.stderr.count("DeprecationWarning") == 1
    quiet = [sys.executable, "-I", "-W", "error", "-c", code.partition("\n")[0]]
    subprocess.run(quiet, check=True)


async def test_calls_do_not_warn_again(fake: FakeCohere) -> None:
    """Once there is a client, there is no more to be said."""
    cohere = client_of(fake)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert await cohere.finetuned_models().to_list() == []


def test_the_face_has_the_client_alone() -> None:
    """The names of the rows are too common for it."""
    assert cfai.Cohere is Cohere
    assert "BaseModel" not in cfai.__all__
    assert "Event" not in cfai.__all__


# Who asks, and where


async def test_the_environment(fake: FakeCohere, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cohere's own names; what is given wins, and an empty variable says nothing."""
    monkeypatch.setenv("CO_API_URL", fake.base_url)
    monkeypatch.setenv("COHERE_API_KEY", "second")
    monkeypatch.setenv("CO_API_KEY", "")
    for key in ("second", "first"):
        with pytest.warns(DeprecationWarning, match="retired"):
            cohere = Cohere()
        async with cohere:
            await cohere.finetuned_models().first()
        assert fake.requests[-1].headers["Authorization"] == f"Bearer {key}"
        monkeypatch.setenv("CO_API_KEY", "first")


@pytest.mark.filterwarnings("ignore:Cohere deprecated")
def test_what_cannot_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is missing or no header's, an address that is none."""
    monkeypatch.delenv("CO_API_KEY", raising=False)
    monkeypatch.delenv("COHERE_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="CO_API_KEY"):
        Cohere()
    with pytest.raises(ConfigError, match="api_key must be printable") as caught:
        Cohere(api_key="se cret")
    assert "se cret" not in str(caught.value)
    with pytest.raises(ConfigError, match="unencrypted"):
        Cohere(api_key="key", base_url="http://cohere.example")
    with pytest.raises(InputError, match="limit"):
        Cohere(api_key="key", limit=0)
    assert repr(Cohere(api_key="key")) == "<Cohere https://api.cohere.com>"


async def test_the_headers(fake: FakeCohere) -> None:
    """The key as a bearer's, and the project's name on every call."""
    cohere = client_of(fake, client_name="my project")
    await cohere.create("a", RERANK)
    await cohere.finetuned_models().first()
    for request in fake.requests:
        assert request.headers["Authorization"] == "Bearer fake-key"
        assert request.headers["X-Client-Name"] == "my project"
    assert "X-Auth-Key" not in fake.requests[0].headers
    with pytest.raises(InputError, match="X-Client-Name"):
        await client_of(fake, client_name="a\r\nb").get("m")


@pytest.mark.parametrize("end", ["/cohere", "/cohere/", "/cohere/v1", "/cohere/v1/"])
async def test_a_gateway(fake: FakeCohere, end: str) -> None:
    """Its address, with or without the /v1 of its manual, and the token that it asks for."""
    fake.script.says(ONE)
    cohere = client_of(
        fake,
        base_url=f"{fake.base_url}/v1/account/my-gateway{end}",
        gateway=Gateway("my-gateway", skip_cache=True, authorization="gateway token"),
    )
    await cohere.get("m-1")
    (request,) = fake.requests
    assert request.target == f"/v1/account/my-gateway/cohere{PATH}/m-1"
    assert request.headers["Authorization"] == "Bearer fake-key"
    assert request.headers["cf-aig-authorization"] == "Bearer gateway token"
    assert request.headers["cf-aig-skip-cache"] == "true"
    assert "cf-aig-gateway-id" not in request.headers


@pytest.mark.filterwarnings("ignore:Cohere deprecated")
async def test_cohere_is_not_told_of_a_gateway() -> None:
    """A gateway's token has no business there, in the client's settings or in a call's."""
    gateway = Gateway("my-gateway", authorization="token")
    with pytest.raises(ConfigError, match="base_url of an AI Gateway"):
        Cohere(api_key="key", base_url="https://api.cohere.com", gateway=gateway)
    async with Cohere(api_key="key", base_url="https://api.cohere.com/v1") as cohere:
        with pytest.raises(ConfigError, match="base_url of an AI Gateway"):
            await cohere.get("m", options=Options(gateway=gateway))


# The list of models


async def test_the_documented_list(fake: FakeCohere) -> None:
    """Both models, field for field; the second has no hyperparameters."""
    fake.script.says(LISTED)
    chat, rerank = await client_of(fake).finetuned_models().to_list()
    facts: dict[str, Any] = {
        "creator_id": "7a317d97-4d05-427d-9396-f31b9fb92c55",
        "organization_id": "6bdca3d5-3eae-4de0-ac34-786d8063b7ee",
        "status": "STATUS_READY",
        "created_at": MOMENT,
        "updated_at": MOMENT,
        "completed_at": MOMENT,
    }
    assert chat == FinetunedModel(
        "chat-ft",
        Settings(
            BaseModel("BASE_TYPE_CHAT", name="medium", version="14.2.0", strategy="STRATEGY_TFEW"),
            "my-dataset-d701tr",
            hyperparameters=Hyperparameters(
                early_stopping_patience=6,
                early_stopping_threshold=0.01,
                train_batch_size=16,
                train_epochs=1,
                learning_rate=0.01,
            ),
        ),
        id="fee37446-7fc7-42f9-a026-c6ba2fcc422d",
        **facts,
    )
    assert rerank.settings.hyperparameters is None
    assert rerank.settings.base_model.base_type == BaseType.RERANK
    assert (rerank.name, rerank.id, rerank.status) == ("rerank-ft", MODEL, Status.READY)
    assert rerank.created_at is not None
    assert rerank.created_at.utcoffset() == timedelta(0)
    assert rerank.raw is not None
    assert rerank.raw["created_at"] == "2024-01-15T09:30:00Z"
    assert [request.target for request in fake.requests] == [PATH]


async def test_pages(fake: FakeCohere) -> None:
    """Each with the token of the one before, the size and the order; `""` is the end."""
    row = b'{"name":"a","settings":{"base_model":{},"dataset_id":"d"},"id":"%d"}'
    pages = b'{"finetuned_models":[' + row + b'],"next_page_token":"%s","total_size":3}'
    fake.script.says(pages % (1, b"a+/=")).says(pages % (2, b"b")).says(pages % (3, b""))
    models = client_of(fake).finetuned_models(page_size=1, order_by="created_at desc,name")
    assert [model.id async for model in models] == ["1", "2", "3"]
    asked = "?page_size=1&{}order_by=created_at+desc,name"
    assert [request.target.removeprefix(PATH) for request in fake.requests] == [
        asked.format(""),
        asked.format("page_token=a%2B%2F%3D&"),
        asked.format("page_token=b&"),
    ]


@pytest.mark.parametrize("count", [0, 1, 49, 50, 51, 120])
@pytest.mark.parametrize("size", [None, 0, 1, 50, 1000])
async def test_every_model_once(fake: FakeCohere, count: int, size: int | None) -> None:
    """Whatever the size of the pages, in as many requests as there are pages."""
    for number in range(count):
        fake.adds(str(number))
    models = client_of(fake).finetuned_models(page_size=size, order_by="created_at")
    assert [model.name async for model in models] == [str(number) for number in range(count)]
    assert len(fake.requests) == max(1, -(-count // (size or 50)))


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("created_at", "created_at"),
        (" created_at  desc , name ", "created_at desc,name"),
        (["created_at desc", "name"], "created_at desc,name"),
        (("created_at",), "created_at"),
    ],
)
async def test_an_order(fake: FakeCohere, given: Any, sent: str) -> None:
    """As a text or field by field."""
    fake.script.says(b"{}")
    await client_of(fake).finetuned_models(order_by=given).to_list()
    assert fake.requests[0].query == {"order_by": sent}


async def test_the_fake_keeps_an_order(fake: FakeCohere) -> None:
    """By the documented fields, and by no other."""
    for name in ("b", "a", "c"):
        fake.adds(name)
    cohere = client_of(fake)
    rows = await cohere.finetuned_models(order_by="name desc,created_at", page_size=2).to_list()
    assert [model.name for model in rows] == ["c", "b", "a"]
    with pytest.raises(BadRequest, match="invalid order_by: color"):
        await cohere.finetuned_models(order_by="color").first()


@pytest.mark.parametrize(
    "given",
    ["", ",", [], "created_at asc", "created_at DESC", ["a,b"], [1], 5, "a,a desc", "a&b=c", b"a"],
)
async def test_no_order(fake: FakeCohere, given: Any) -> None:
    """What the service would not understand is told before it is sent."""
    cohere = client_of(fake)
    with pytest.raises(InputError, match="order_by"):
        cohere.finetuned_models(order_by=given)
    with pytest.raises(InputError, match="order_by"):
        cohere.events("m", order_by=given)


@pytest.mark.parametrize("size", [-1, 2**31, 1.0, True, "5"])
async def test_no_size(fake: FakeCohere, size: Any) -> None:
    """A page has a whole number of rows, of 32 bits."""
    with pytest.raises(InputError, match="page_size"):
        client_of(fake).training_step_metrics("m", page_size=size)


@pytest.mark.parametrize("body", [b"{}", b'{"finetuned_models":[]}', b'{"finetuned_models":null}'])
async def test_no_models(fake: FakeCohere, body: bytes) -> None:
    """An empty list is empty, or left out."""
    fake.script.says(body)
    assert await client_of(fake).finetuned_models().to_list() == []


async def test_what_is_new_is_read(fake: FakeCohere) -> None:
    """An enum's new text, an unknown key, a null, and an empty text that was left out."""
    fake.script.says(
        b'{"finetuned_model":{"settings":{"base_model":{"strategy":null},"new":1,"multi_label":true,'
        b'"hyperparameters":{"lora_target_modules":"LORA_TARGET_MODULES_ALL","learning_rate":1},'
        b'"wandb":{"project":"p"}},"status":"STATUS_DREAMING",'
        b'"last_used":"2024-01-15T09:30:00.123456789Z"}}'
    )
    model = await client_of(fake).get("m")
    assert model.status == "STATUS_DREAMING"
    assert model.last_used == MOMENT + timedelta(microseconds=123456)
    assert (model.name, model.id, model.created_at) == ("", None, None)
    assert model.settings == Settings(
        BaseModel("BASE_TYPE_UNSPECIFIED"),
        "",
        hyperparameters=Hyperparameters(
            lora_target_modules="LORA_TARGET_MODULES_ALL", learning_rate=1.0
        ),
        multi_label=True,
        wandb=WandbConfig("p", ""),
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'"text"',
        b"{}",
        b'{"finetuned_model":[]}',
        b'{"finetuned_model":{"name":"a"}}',
        b'{"finetuned_model":{"name":"a","settings":{"dataset_id":"d"}}}',
        b'{"finetuned_model":{"name":1,"settings":{"base_model":{},"dataset_id":"d"}}}',
        b'{"finetuned_model":{"settings":{"base_model":{}},"created_at":"2024-01-15T09:30:00"}}',
        b'{"finetuned_model":{"settings":{"base_model":{},"hyperparameters":{"lora_rank":1.5}}}}',
    ],
)
async def test_what_nobody_documented(fake: FakeCohere, body: bytes) -> None:
    """Another form than the documented one is told, and shown."""
    fake.script.says(body)
    with pytest.raises(DecodeError) as caught:
        await client_of(fake).get("m")
    assert caught.value.body == body


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b'{"result":[],"success":true}',
        b'{"finetuned_models":{}}',
        b'{"finetuned_models":[1]}',
        b'{"finetuned_models":[],"next_page_token":5}',
    ],
)
async def test_no_page(fake: FakeCohere, body: bytes) -> None:
    """A list that can't be read is not an empty one."""
    fake.script.says(body)
    with pytest.raises(DecodeError):
        await client_of(fake).finetuned_models().to_list()


# Making, changing, deleting


async def test_from_beginning_to_end(fake: FakeCohere) -> None:
    """A model is made, listed, changed and deleted."""
    cohere = client_of(fake)
    made = await cohere.create("rerank-ft", RERANK)
    assert (made.name, made.settings, made.status) == ("rerank-ft", RERANK, Status.QUEUED)
    assert await cohere.finetuned_models().to_list() == [made]
    assert made.id is not None
    fake.happens(made.id, Status.READY)
    assert (await cohere.get(made)).status == Status.READY
    changed = await cohere.update(made, name="better", settings=made.settings)
    assert (changed.id, changed.name) == (made.id, "better")
    await cohere.delete(changed)
    with pytest.raises(NotFound, match=made.id):
        await cohere.get(made.id)
    asked = [f"{request.method} {request.target}" for request in fake.requests]
    assert asked == [
        f"POST {PATH}",
        f"GET {PATH}",
        f"GET {PATH}/{made.id}",
        f"PATCH {PATH}/{made.id}",
        f"DELETE {PATH}/{made.id}",
        f"GET {PATH}/{made.id}",
    ]


async def test_what_goes_out(fake: FakeCohere) -> None:
    """All that was given, and nothing that was left out or is the service's to say."""
    fake.script.says(ONE).says(ONE)
    settings = Settings(
        BaseModel(BaseType.CHAT, name="medium", version="14.2.0", strategy="STRATEGY_NEW"),
        "my-dataset",
        hyperparameters=Hyperparameters(
            early_stopping_patience=0,
            learning_rate=0.01,
            lora_target_modules=LoraTargetModules.QKVO,
        ),
        multi_label=True,
        wandb=WandbConfig("p", WANDB_KEY, entity="e"),
    )
    body = {
        "name": "chat-ft",
        "settings": {
            "base_model": {
                "base_type": "BASE_TYPE_CHAT",
                "name": "medium",
                "strategy": "STRATEGY_NEW",
            },
            "dataset_id": "my-dataset",
            "hyperparameters": {
                "early_stopping_patience": 0,
                "learning_rate": 0.01,
                "lora_target_modules": "LORA_TARGET_MODULES_QKVO",
            },
            "wandb": {"project": "p", "api_key": WANDB_KEY, "entity": "e"},
        },
    }
    cohere = client_of(fake)
    await cohere.create("chat-ft", settings)
    await cohere.update("m-1", name="chat-ft", settings=settings)
    for request in fake.requests:
        assert request.json() == body
        assert request.headers["Content-Type"] == "application/json"


async def test_what_is_refused_here(fake: FakeCohere) -> None:
    """What is required and empty, of another kind, or no number."""
    cohere = client_of(fake)
    with pytest.raises(InputError, match="name must be"):
        await cohere.create("", RERANK)
    with pytest.raises(InputError, match="dataset_id must be"):
        await cohere.create("a", Settings(BaseModel("BASE_TYPE_CHAT"), ""))
    with pytest.raises(InputError, match="base_type must be"):
        await cohere.update("m", name="a", settings=Settings(BaseModel(""), "d"))
    wrong: Any = {"dataset_id": "d"}
    with pytest.raises(InputError, match=r"settings must be cohere\.Settings, got dict"):
        await cohere.create("a", wrong)
    with pytest.raises(InputError, match=r"Hyperparameters\.learning_rate must be a finite"):
        Hyperparameters(learning_rate=float("nan"))
    with pytest.raises(InputError, match=r"Hyperparameters\.lora_rank must be a 32-bit integer"):
        Hyperparameters(lora_rank=2**31)
    assert not fake.requests


@pytest.mark.parametrize(
    ("given", "sent"),
    [("a/b", "a%2Fb"), ("a?b#c %", "a%3Fb%23c%20%25"), ("é", "%C3%A9"), ("..a", "..a")],
)
async def test_an_id_is_one_segment(fake: FakeCohere, given: str, sent: str) -> None:
    """Whatever is in it is encoded, for every endpoint that takes one."""
    cohere = client_of(fake, retries=NEVER)
    with pytest.raises(NotFound):
        await cohere.get(given)
    with pytest.raises(NotFound):
        await cohere.delete(given)
    with pytest.raises(NotFound):
        await cohere.update(given, name="a", settings=RERANK)
    with pytest.raises(NotFound):
        await cohere.events(given).first()
    with pytest.raises(NotFound):
        await cohere.training_step_metrics(given).first()
    ends = ["", "", "", "/events", "/training-step-metrics"]
    assert [request.target for request in fake.requests] == [f"{PATH}/{sent}{end}" for end in ends]


@pytest.mark.parametrize("given", ["", ".", "..", None, 5, "\ud800", FinetunedModel("a", RERANK)])
async def test_no_id(fake: FakeCohere, given: Any) -> None:
    """What can be no segment of a path, and a model that the service gave none."""
    cohere = client_of(fake)
    with pytest.raises(InputError, match="id must be"):
        await cohere.delete(given)
    with pytest.raises(InputError, match="id must be"):
        cohere.events(given)
    assert not fake.requests


@pytest.mark.parametrize("body", [b"{}", b"", b'{"anything":[1]}'])
async def test_a_deletion_says_nothing(fake: FakeCohere, body: bytes) -> None:
    """Whatever is answered, it is done."""
    fake.script.says(body)
    await client_of(fake).delete("m")


# Events and metrics


async def test_events(fake: FakeCohere) -> None:
    """The service's own have no user."""
    fake.script.says(
        b'{"events":[{"user_id":"u","status":"STATUS_QUEUED","created_at":"2024-01-15T09:30:00.000001Z"},'
        b'{"status":"STATUS_NEW"},{}],"total_size":3}'
    )
    rows = await client_of(fake).events("m", page_size=5, order_by=["created_at desc"]).to_list()
    assert rows == [
        Event(user_id="u", status=Status.QUEUED, created_at=MOMENT + timedelta(microseconds=1)),
        Event(status="STATUS_NEW"),
        Event(),
    ]
    assert fake.requests[0].target == f"{PATH}/m/events?page_size=5&order_by=created_at+desc"


async def test_metrics(fake: FakeCohere) -> None:
    """Step 0 comes without its number; what JSON has no number for comes as a text."""
    fake.script.says(
        b'{"step_metrics":[{"created_at":"2024-01-15T09:30:00Z","metrics":{"accuracy":0.5,"loss":1}},'
        b'{"step_number":1,"metrics":{"loss":"NaN","other":"-Infinity"}},{"step_number":2}],'
        b'"next_page_token":"t"}'
    ).says(b"{}")
    rows = await client_of(fake).training_step_metrics("m", page_size=3).to_list()
    assert rows[0] == TrainingStepMetrics(
        created_at=MOMENT, step_number=0, metrics={"accuracy": 0.5, "loss": 1.0}
    )
    assert [row.step_number for row in rows] == [0, 1, 2]
    assert isnan(rows[1].metrics["loss"])
    assert rows[1].metrics["other"] == -inf
    assert rows[2].metrics == {}
    assert isinstance(hash(rows[0]), int)
    assert [request.target for request in fake.requests] == [
        f"{PATH}/m/training-step-metrics?page_size=3",
        f"{PATH}/m/training-step-metrics?page_size=3&page_token=t",
    ]


async def test_the_history_of_a_training(fake: FakeCohere) -> None:
    """The events and the steps of one model, and of no other."""
    cohere = client_of(fake)
    model, other = await cohere.create("a", RERANK), await cohere.create("b", RERANK)
    assert model.id is not None
    fake.happens(model.id, Status.FINETUNING)
    for step in range(5):
        fake.measures(model.id, loss=1 / (step + 1))
    events = await cohere.events(model, order_by="created_at").to_list()
    assert [event.status for event in events] == [Status.QUEUED, Status.FINETUNING]
    steps = await cohere.training_step_metrics(model, page_size=2).to_list()
    assert [step.step_number for step in steps] == [0, 1, 2, 3, 4]
    assert steps[1].metrics == {"loss": 0.5}
    assert await cohere.training_step_metrics(other).first() is None


# Failures


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequest),
        (401, AuthenticationError),
        (403, PermissionDenied),
        (404, NotFound),
        (500, ServerError),
        (503, ServerError),
        (498, StatusError),
    ],
)
async def test_the_documented_errors(
    fake: FakeCohere, status: int, kind: type[StatusError]
) -> None:
    """A status and a message, for every endpoint; and no advice about Workers AI."""
    cohere = client_of(fake, retries=NEVER)
    calls = [
        cohere.finetuned_models().first,
        lambda: cohere.create("a", RERANK),
        lambda: cohere.get("m"),
        lambda: cohere.update("m", name="a", settings=RERANK),
        lambda: cohere.delete("m"),
        cohere.events("m").first,
        cohere.training_step_metrics("m").first,
    ]
    for call in calls:
        fake.refuses(status, "no, sorry")
        with pytest.raises(kind) as caught:
            await call()
        assert type(caught.value) is kind
        assert (caught.value.status, caught.value.message) == (status, "no, sorry")
        assert caught.value.errors == ({"message": "no, sorry"},)
        assert caught.value.hint is None
        assert "Workers" not in str(pickle.loads(pickle.dumps(caught.value)))  # noqa: S301  # our own


async def test_a_gateway_that_says_no(fake: FakeCohere) -> None:
    """In its own form, with its code and what to do about that."""
    fake.script.fails(401, 2009, "Unauthorized")
    with pytest.raises(AuthenticationError, match="cf-aig-authorization"):
        await client_of(fake).get("m")


async def test_a_model_is_made_once(fake: FakeCohere) -> None:
    """After a failure nobody knows whether there is one; after a refusal there is none."""
    cohere = client_of(fake, retries=AT_ONCE)
    fake.refuses(503, "later")
    with pytest.raises(ServerError):
        await cohere.create("a", RERANK)
    fake.script.hangs_up()
    with pytest.raises(ConnectionLost):
        await cohere.create("a", RERANK)
    assert len(fake.requests) == 2
    fake.refuses(429, "too many")
    await cohere.create("a", RERANK)
    assert len(fake.requests) == 4
    assert len(fake.models) == 1


async def test_the_others_are_tried_again(fake: FakeCohere) -> None:
    """What can be done twice is."""
    cohere = client_of(fake, retries=AT_ONCE)
    model = await cohere.create("a", RERANK)
    for call in (
        lambda: cohere.get(model),
        lambda: cohere.update(model, name="b", settings=RERANK),
        lambda: cohere.delete(model),
    ):
        fake.refuses(500, "oh").script.hangs_up()
        await call()
    assert len(fake.requests) == 10
    fake.refuses(429, "a").refuses(429, "b").refuses(429, "c")
    with pytest.raises(RateLimited, match="c"):
        await cohere.finetuned_models().first()


# What is secret


def shown(error: BaseException) -> str:
    """All that an error says and keeps, and what a log shows of where it comes from."""
    return "".join([*format_exception(error), repr(error), repr(vars(error))])


def test_the_key_is_in_no_repr() -> None:
    """Neither of the configuration nor of what holds it."""
    assert WANDB_KEY not in repr(TRACKED) + str(FinetunedModel("a", TRACKED))
    assert "project='p'" in repr(TRACKED)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, b'{"message":"the key %s is unknown"}'),
        (400, b'{"message":"no","details":{"wandb":{"api_key":"%s"}}}'),
        (500, b"<p>%s</p>"),
        (200, b'{"finetuned_model":{"settings":{"wandb":{"api_key":"%s"}}}}'),
        (200, b'{"finetuned_model":{"name":["%s"]}}'),
        (200, b"%s"),
    ],
)
async def test_the_key_is_in_no_error(fake: FakeCohere, status: int, body: bytes) -> None:
    """The service may repeat what it was sent, in any form."""
    fake.script.says(body % WANDB_KEY.encode(), status=status)
    with pytest.raises(CfaiError) as caught:
        await client_of(fake, retries=NEVER).create("a", TRACKED)
    assert WANDB_KEY not in shown(caught.value)


@pytest.mark.parametrize(
    "message",
    [
        r"bad settings {\"api_key\": \"another-secret\", \"project\": \"p\"}",
        r"bad settings {\\\"api_key\\\": \\\"another-secret\\\"}",
        "api_key=another-secret is wrong",
        "api_key: 'another-secret'",
    ],
)
async def test_a_key_inside_of_a_text(fake: FakeCohere, message: str) -> None:
    """Quoted once more, or by hand."""
    fake.script.says(b'{"message": "%s"}' % message.encode(), status=400)
    with pytest.raises(BadRequest) as caught:
        await client_of(fake).get("m")
    assert "another-secret" not in shown(caught.value)
    assert "api_key" in str(caught.value)


async def test_a_key_that_was_not_told_is_not_taken_away(fake: FakeCohere) -> None:
    """What was read is what is sent back, without an empty key that would replace the right one."""
    said = b'{"name":"a","settings":{"base_model":{},"dataset_id":"d","wandb":{"project":"p"}}}'
    fake.script.says(b'{"finetuned_model":%s}' % said).says(b'{"finetuned_model":%s}' % said)
    cohere = client_of(fake)
    model = await cohere.get("m")
    await cohere.update("m", name="b", settings=model.settings)
    assert fake.requests[-1].json()["settings"]["wandb"] == {"project": "p"}


@pytest.mark.parametrize("key", [b'"another-secret"', b'["another-secret"]', b'"another-secret'])
@pytest.mark.parametrize("status", [200, 400])
async def test_a_key_that_the_service_knew(fake: FakeCohere, status: int, key: bytes) -> None:
    """A key from before is no less secret, in what form ever."""
    fake.script.says(
        b'{"finetuned_model":{"name":5,"settings":{"base_model":{},"wandb":{"api_key": %s}}},'
        b'"message":"no"}' % key,
        status=status,
    )
    with pytest.raises(CfaiError) as caught:
        await client_of(fake).get("m")
    assert "another-secret" not in shown(caught.value)


async def test_a_key_is_read_and_not_shown(fake: FakeCohere) -> None:
    """Whoever asks for it by name gets it; `raw` and `repr` have none."""
    cohere = client_of(fake)
    model = await cohere.create("a", TRACKED)
    assert model.settings.wandb is not None
    assert model.settings.wandb.api_key == WANDB_KEY
    assert WANDB_KEY not in repr(model) + repr(model.raw)


async def test_the_clients_own_key_is_in_no_error(fake: FakeCohere) -> None:
    """As for every client."""
    fake.refuses(401, "invalid api token: co-secret-key")
    cohere = client_of(fake, api_key="co-secret-key")
    with pytest.raises(AuthenticationError) as caught:
        await cohere.get("m")
    assert "co-secret-key" not in shown(caught.value) + repr(cohere) + repr(cohere._settings)
