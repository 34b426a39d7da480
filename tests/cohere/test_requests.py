"""Cohere's fine-tuning API over a real socket: documented bytes in, documented bytes out."""

import json
from datetime import timedelta
from math import inf, isnan
from typing import Any

import pytest

from cfai.cohere import (
    BaseModel,
    BaseType,
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
    DecodeError,
    InputError,
    NotFound,
    StatusError,
)
from cfai.testing import FakeCohere

from .data import LISTED, MODEL, MOMENT, NEVER, ONE, PATH, RERANK, WANDB_KEY, client_of


async def test_the_documented_list(fake: FakeCohere) -> None:
    """Both models, field by field; the second has no hyperparameters."""
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
    """Each with the token of the one before, the size and the order; "" is the end."""
    row = b'{"name":"a","settings":{"base_model":{},"dataset_id":"d"},"id":"%d"}'
    pages = b'{"finetuned_models":[' + row + b'],"next_page_token":"%s","total_size":3}'
    fake.script.says(pages % (1, b"a+/=")).says(pages % (2, b"b")).says(pages % (3, b""))
    models = client_of(fake).finetuned_models(page_size=1, order_by="created_at desc,name")
    assert [model.id async for model in models] == ["1", "2", "3"]
    query = "?page_size=1&{}order_by=created_at+desc,name"
    assert [request.target.removeprefix(PATH) for request in fake.requests] == [
        query.format(""),
        query.format("page_token=a%2B%2F%3D&"),
        query.format("page_token=b&"),
    ]


@pytest.mark.parametrize("count", [0, 1, 49, 50, 51, 120])
@pytest.mark.parametrize("size", [None, 0, 1, 50, 1000])
async def test_every_model_is_listed_once(fake: FakeCohere, count: int, size: int | None) -> None:
    """Whatever the page size, with one request per page."""
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
async def test_order_by(fake: FakeCohere, given: Any, sent: str) -> None:
    """As one string or field by field."""
    fake.script.says(b"{}")
    await client_of(fake).finetuned_models(order_by=given).to_list()
    assert fake.requests[0].query == {"order_by": sent}


@pytest.mark.parametrize(
    "given",
    ["", ",", [], "created_at asc", "created_at DESC", ["a,b"], [1], 5, "a,a desc", "a&b=c", b"a"],
)
async def test_an_invalid_order_is_refused(fake: FakeCohere, given: Any) -> None:
    """Nothing is sent."""
    cohere = client_of(fake)
    with pytest.raises(InputError, match="order_by"):
        cohere.finetuned_models(order_by=given)
    with pytest.raises(InputError, match="order_by"):
        cohere.events("m", order_by=given)


@pytest.mark.parametrize("size", [-1, 2**31, 2**40, 1.0, True, "5"])
async def test_an_invalid_page_size_is_refused(fake: FakeCohere, size: Any) -> None:
    """It is a 32-bit integer, 0 or more."""
    with pytest.raises(InputError, match="page_size"):
        client_of(fake).training_step_metrics("m", page_size=size)


@pytest.mark.parametrize("size", [0, 2**31 - 1])
async def test_the_bounds_of_a_page_size_are_sent(fake: FakeCohere, size: int) -> None:
    """By every list."""
    fake.script.says(b"{}").says(b"{}").says(b"{}")
    cohere = client_of(fake)
    for pager in (cohere.finetuned_models, cohere.events, cohere.training_step_metrics):
        models = () if pager == cohere.finetuned_models else ("m",)
        make: Any = pager
        assert await make(*models, page_size=size).to_list() == []
    assert [request.query for request in fake.requests] == [{"page_size": str(size)}] * 3


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"finetuned_models":[]}',
        b'{"finetuned_models":null}',
        b'{"total_size":0}',
        b'{"next_page_token":""}',
        b'{"next_page_token":null}',
    ],
)
async def test_the_list_can_be_empty(fake: FakeCohere, body: bytes) -> None:
    """It is empty, or omitted."""
    fake.script.says(body)
    assert await client_of(fake).finetuned_models().to_list() == []


async def test_unknown_values_are_accepted(fake: FakeCohere) -> None:
    """A new enum value, an unknown key, a null, and omitted empty strings."""
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
async def test_an_undocumented_model_is_an_error(fake: FakeCohere, body: bytes) -> None:
    """The error has the body."""
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
async def test_an_undocumented_page_is_an_error(fake: FakeCohere, body: bytes) -> None:
    """A list that can't be read is not an empty one."""
    fake.script.says(body)
    with pytest.raises(DecodeError):
        await client_of(fake).finetuned_models().to_list()


async def test_create_and_update_send_all_settings(fake: FakeCohere) -> None:
    """Without omitted and read-only fields."""
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


async def test_invalid_settings_are_refused(fake: FakeCohere) -> None:
    """Required fields that are empty, or settings of another type."""
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
    assert not fake.requests


@pytest.mark.parametrize(
    ("given", "sent"),
    [("a/b", "a%2Fb"), ("a?b#c %", "a%3Fb%23c%20%25"), ("é", "%C3%A9"), ("..a", "..a")],
)
async def test_an_id_is_escaped(fake: FakeCohere, given: str, sent: str) -> None:
    """For every endpoint that takes one."""
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
async def test_an_invalid_id_is_refused(fake: FakeCohere, given: Any) -> None:
    """No path segment, or a model without an id."""
    cohere = client_of(fake)
    with pytest.raises(InputError, match="id must be"):
        await cohere.delete(given)
    with pytest.raises(InputError, match="id must be"):
        cohere.events(given)
    assert not fake.requests


@pytest.mark.parametrize("body", [b"{}", b"", b'{"anything":[1]}'])
@pytest.mark.parametrize("status", [200, 202, 299])
async def test_delete_accepts_any_body(fake: FakeCohere, body: bytes, status: int) -> None:
    """It is done, whatever the response contains."""
    fake.script.says(body, status=status)
    await client_of(fake).delete("m")


@pytest.mark.parametrize("body", [b"{}", b""])
@pytest.mark.parametrize("status", [300, 400, 404, 500])
async def test_delete_fails_by_its_status(fake: FakeCohere, body: bytes, status: int) -> None:
    """With or without a body."""
    fake.script.says(body, status=status)
    with pytest.raises(StatusError) as caught:
        await client_of(fake, retries=NEVER).delete("m")
    assert caught.value.status == status


async def test_no_key_is_in_the_raw_row(fake: FakeCohere) -> None:
    """At any depth; all else is as it came."""
    fake.script.says(
        b'{"finetuned_model":{"name":"a","settings":{"base_model":{},"dataset_id":"d",'
        b'"wandb":{"project":"p","api_key":"secret"}},"was":[{"api_key":"old"},["b",null]]}}'
    )
    model = await client_of(fake).get("m")
    assert model.raw == {
        "name": "a",
        "settings": {
            "base_model": {},
            "dataset_id": "d",
            "wandb": {"project": "p", "api_key": "***"},
        },
        "was": [{"api_key": "***"}, ["b", None]],
    }
    assert model.settings.wandb == WandbConfig("p", "secret")


async def test_the_rows_of_a_history_are_kept(fake: FakeCohere) -> None:
    """As decoded JSON."""
    event = {"status": "STATUS_NEW", "by": None}
    step = {"step_number": 1, "metrics": {"loss": "Infinity"}, "more": [1]}
    for page in ({"events": [event]}, {"step_metrics": [step]}):
        fake.script.says(json.dumps(page).encode())
    cohere = client_of(fake)
    first = await cohere.events("m").first()
    assert first is not None
    assert first.raw == event
    measured = await cohere.training_step_metrics("m").first()
    assert measured is not None
    assert measured.raw == step
    assert measured.metrics == {"loss": inf}


@pytest.mark.parametrize("value", [b'"high"', b"[1]", b"true"])
async def test_a_metric_that_is_no_number_is_an_error(fake: FakeCohere, value: bytes) -> None:
    fake.script.says(b'{"step_metrics":[{"metrics":{"loss":%s}}]}' % value)
    with pytest.raises(DecodeError, match="loss"):
        await client_of(fake).training_step_metrics("m").to_list()


async def test_events(fake: FakeCohere) -> None:
    """Events that the service caused have no user."""
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
    """Step 0 has no number; values that JSON has no number for are strings."""
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


async def test_update_does_not_remove_the_key(fake: FakeCohere) -> None:
    """An omitted key is not sent back as an empty one."""
    row = b'{"name":"a","settings":{"base_model":{},"dataset_id":"d","wandb":{"project":"p"}}}'
    fake.script.says(b'{"finetuned_model":%s}' % row).says(b'{"finetuned_model":%s}' % row)
    cohere = client_of(fake)
    model = await cohere.get("m")
    await cohere.update("m", name="b", settings=model.settings)
    assert fake.requests[-1].json()["settings"]["wandb"] == {"project": "p"}
