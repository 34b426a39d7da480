"""The model catalogue over a real socket: rows as the service sends them, documented searches."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from cfai import Author, Model, ModelTask, Price
from cfai.errors import BadRequest, DecodeError, InputError, NotFound
from cfai.testing import FakeWorkersAI

# A row as the model cards of Cloudflare's docs have it (without its schema).
LLAMA = (
    b'{"id": "7a143886-c9bb-4a1c-be95-377b1973bc3b", "source": 1,'
    b' "name": "@cf/meta/llama-3.3-70b-instruct-fp8-fast",'
    b' "description": "Llama 3.3 70B quantized to fp8 precision, optimized to be faster.",'
    b' "task": {"id": "c329a1f9-323d-4e91-b2aa-582dd4188d34", "name": "Text Generation",'
    b' "description": "Family of generative text models"},'
    b' "created_at": "2024-12-06 17:09:18.338", "tags": [],'
    b' "properties": [{"property_id": "async_queue", "value": "true"},'
    b' {"property_id": "context_window", "value": "24000"},'
    b' {"property_id": "price", "value": [{"unit": "per M input tokens", "price": 0.29,'
    b' "currency": "USD"}, {"unit": "per M output tokens", "price": 2.25, "currency": "USD"}]},'
    b' {"property_id": "reasoning_effort", "value": {"supported_efforts": ["low"]}}]}'
)
NAME = "@cf/meta/llama-3.3-70b-instruct-fp8-fast"


def page(*rows: bytes, rest: bytes = b"") -> bytes:
    body = b'{"success":true,"result":[' + b",".join(rows) + b'],"errors":[],"messages":[]'
    return body + rest + b"}"


async def one(fake: FakeWorkersAI, **fields: Any) -> Model:
    fake.says(page(json.dumps({"name": "@cf/a/b", **fields}).encode()))
    model = await fake.client().models.search().first()
    assert model is not None
    return model


async def test_search_reads_a_model(fake: FakeWorkersAI) -> None:
    """A property is a string, a list or an object, and is kept as it is."""
    fake.says(page(LLAMA))
    model = await fake.client().models.search().first()
    assert model is not None
    assert (model.name, model.source, model.tags) == (NAME, 1, ())
    assert model.task == ModelTask(
        "Text Generation",
        id="c329a1f9-323d-4e91-b2aa-582dd4188d34",
        description="Family of generative text models",
    )
    assert model.created_at == datetime(2024, 12, 6, 17, 9, 18, 338000, tzinfo=UTC)
    assert model.context_window == 24000
    assert model.price == (
        Price(0.29, "per M input tokens", "USD"),
        Price(2.25, "per M output tokens", "USD"),
    )
    assert (model.lora, model.deprecated) == (False, False)
    assert model.properties["reasoning_effort"] == {"supported_efforts": ["low"]}
    assert model.raw == json.loads(LLAMA)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("24000", 24000),
        (" 24000\n", 24000),
        ("0", 0),
        ("1" * 19, int("1" * 19)),
        ("1" * 20, None),
        ("-1", None),
        ("", None),
        (24000, 24000),
        (0, 0),
        (4095, 4095),
        (4095.0, 4095),
        (1e300, int(1e300)),
        (2.5, None),
        ("many", None),
        ("²", None),
        ("9" * 5000, None),
        (-5, None),
        ([1], None),
        (True, None),
        (None, None),
    ],
)
async def test_the_context_window(fake: FakeWorkersAI, value: Any, expected: int | None) -> None:
    """A number, or a string of digits."""
    model = await one(fake, properties=[{"property_id": "context_window", "value": value}])
    assert model.context_window == expected


async def test_models_can_be_hashed(fake: FakeWorkersAI) -> None:
    assert len({await one(fake), await one(fake)}) == 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *(("true", True), (True, True), (" True ", True)),
        *(("false", False), (1, False), (None, False), ("", False)),
    ],
)
async def test_flags(fake: FakeWorkersAI, value: Any, expected: bool) -> None:
    """The service writes them as strings; "false" is not true."""
    model = await one(fake, properties=[{"property_id": "lora", "value": value}], deprecated=value)
    assert (model.lora, model.deprecated) == (expected, expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"unit": "per step", "price": 1}, (Price(1.0, "per step"),)),
        ([{"price": "free"}, 7, {"price": 2}], (Price(2.0),)),
        ("free", ()),
        (None, ()),
    ],
)
async def test_prices(fake: FakeWorkersAI, value: Any, expected: tuple[Price, ...]) -> None:
    """One, several, or none that can be read."""
    model = await one(fake, properties=[{"property_id": "price", "value": value}])
    assert model.price == expected


@pytest.mark.parametrize(
    "odd",
    [
        {"properties": None, "tags": None, "task": None, "created_at": None},
        {"properties": "none", "tags": "none", "task": 5, "created_at": "yesterday"},
        {"properties": [None, {"value": 1}, {"property_id": 1}], "tags": [1], "task": {"id": 1}},
        {"id": 5, "source": "1", "description": {}, "created_at": 5},
    ],
)
async def test_unexpected_fields_are_omitted(fake: FakeWorkersAI, odd: dict[str, Any]) -> None:
    """A row with a name is a model, whatever its other fields are."""
    model = await one(fake, **odd)
    assert model == Model("@cf/a/b")


@pytest.mark.parametrize("row", [b'{"id":"1"}', b'{"id":"1","name":null}', b'{"id":"1","name":5}'])
async def test_a_model_without_a_name_does_not_lose_the_list(
    fake: FakeWorkersAI, row: bytes
) -> None:
    """Its row is kept, with what the service sent."""
    fake.says(page(row, LLAMA)).says(page())
    models = [model async for model in fake.client().models.search()]
    assert [model.name for model in models] == ["", json.loads(LLAMA)["name"]]
    assert models[0].id == "1"
    assert models[0].raw == json.loads(row)


async def test_a_row_that_is_no_object_is_an_error(fake: FakeWorkersAI) -> None:
    fake.says(page(b'"@cf/a/b"'))
    with pytest.raises(DecodeError, match=r"result\[0\] must be a model, got '@cf/a/b'"):
        await fake.client().models.search().first()


async def test_search_sends_filters_and_pages(fake: FakeWorkersAI) -> None:
    """The filters are sent on every page; omitted ones are not."""
    other = LLAMA.replace(b"7a143886", b"7a143887")
    fake.says(page(LLAMA)).says(page(other)).says(page())
    ai = fake.client()
    models = await ai.models.search(
        "fast llama",
        task="Text Generation",
        author="Meta",
        source=1,
        hide_experimental=True,
        include_deprecated=False,
        page_size=1,
    ).to_list()
    assert len(models) == 2
    assert fake.requests[0].query == {
        "search": "fast llama",
        "task": "Text Generation",
        "author": "Meta",
        "source": "1",
        "hide_experimental": "true",
        "include_deprecated": "false",
        "per_page": "1",
    }
    assert fake.requests[1].query == fake.requests[0].query | {"page": "2"}
    assert fake.requests[0].path == "/client/v4/accounts/account/ai/models/search"
    fake.says(page())
    await ai.models.search().first()
    assert fake.requests[-1].target.endswith("/ai/models/search")


async def test_search_ends_at_the_total(fake: FakeWorkersAI) -> None:
    """If the service reports the total, one request is enough."""
    fake.says(page(LLAMA, rest=b',"result_info":{"total_count":1,"page":1,"per_page":50}'))
    assert len(await fake.client().models.search().to_list()) == 1


async def test_search_survives_a_service_without_pages(fake: FakeWorkersAI) -> None:
    """Each page has all rows; each row is given once."""
    fake.always.says(page(LLAMA))
    assert len(await fake.client().models.search().to_list()) == 1
    assert len(fake.requests) == 3


async def test_models_without_an_id_are_matched_by_name(fake: FakeWorkersAI) -> None:
    """The rows change between requests, and each is given once."""
    fake.always.answers_by(
        lambda request: [
            {"name": name, "seen": len(fake.requests)} for name in ("@cf/a/b", "@cf/c/d")
        ]
    )
    models = await fake.client().models.search(page_size=2).to_list()
    assert [one.name for one in models] == ["@cf/a/b", "@cf/c/d"]
    assert len(fake.requests) <= 4


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("search", 1),
        ("task", b"a"),
        ("source", "1"),
        ("source", True),
        ("hide_experimental", "yes"),
        ("page_size", 0),
    ],
)
async def test_filters_are_checked(fake: FakeWorkersAI, field: str, value: Any) -> None:
    """Nothing is sent."""
    with pytest.raises(InputError, match="must be"):
        fake.client().models.search(**{field: value})


async def test_schema(fake: FakeWorkersAI) -> None:
    """The model is part of the query, so it is escaped."""
    fake.answers({"input": {"type": "object"}, "output": {"oneOf": []}, "more": 1})
    schema = await fake.client().models.schema(NAME)
    assert (schema.input, schema.output) == ({"type": "object"}, {"oneOf": []})
    assert schema.raw["more"] == 1
    assert fake.requests[0].target.partition("/ai/")[2] == (
        "models/schema?model=%40cf%2Fmeta%2Fllama-3.3-70b-instruct-fp8-fast"
    )


async def test_schema_reports_errors(fake: FakeWorkersAI) -> None:
    """The documented 400, an undocumented response, and an invalid name."""
    ai = fake.client()
    fake.says(b'{"result":{},"success":false,"errors":[{"message":"no such model"}]}', status=400)
    with pytest.raises(BadRequest, match="no such model"):
        await ai.models.schema("@cf/a/b")
    fake.answers([])
    with pytest.raises(DecodeError, match="a model's schema"):
        await ai.models.schema("@cf/a/b")
    with pytest.raises(InputError):
        await ai.models.schema("a?b")
    assert len(fake.requests) == 2


async def test_tasks_and_authors(fake: FakeWorkersAI) -> None:
    """The API's schema leaves the form of these rows open."""
    ai = fake.client()
    fake.answers([{"id": "1", "name": "Translation", "description": "d"}, "Summarization"])
    assert await ai.models.tasks().to_list() == [
        ModelTask("Translation", id="1", description="d"),
        ModelTask("Summarization"),
    ]
    fake.answers([{"name": "Meta"}, "Google", {}])
    assert await ai.models.authors().to_list() == [Author("Meta"), Author("Google"), Author(None)]
    assert [one.target.partition("/ai/")[2] for one in fake.requests] == [
        "tasks/search",
        "authors/search",
    ]
    fake.answers([{"id": "1"}])
    assert await ai.models.tasks().to_list() == [ModelTask(None, id="1")]
    fake.says(b'{"error":"string","success":false}', status=404)
    with pytest.raises(NotFound, match="string"):
        await ai.models.authors().first()
