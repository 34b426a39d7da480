"""The model catalogue, requested with `WorkersAI` and with plain HTTP."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from cfai import BadRequest, InputError, WorkersAI
from cfai.local import Server
from cfai.local.models import _INPUTS, find_model
from cfai.profiles import TASKS, models
from cfai.tasks import rules

from .conftest import Local, client

LIVE = {name for task in set(TASKS.values()) for name in models(task)}
SUMMARIZERS = {name for name, task in TASKS.items() if task == "Summarization"}
LISTED = LIVE | SUMMARIZERS
"""The service has no model for summaries any more, so the last one stays."""


async def get(local: Local, path: str) -> tuple[int, Any]:
    url = f"{local.server.base_url}/accounts/0/ai/{path}"
    async with local.http.get(url) as response:
        return response.status, await response.json()


@pytest.mark.parametrize("size", [None, 1, 7, 50, len(LISTED), 1000])
async def test_every_model_is_listed_once(size: int | None) -> None:
    async with Server() as server, client(server) as ai:
        rows = await ai.models.search(page_size=size).to_list()
        assert [row.name for row in rows] == sorted(LISTED)
        needed = -(-len(LISTED) // (size or 50))
        assert len(server.requests) <= needed + 1


async def names(ai: WorkersAI, **filters: Any) -> set[str]:
    return {row.name async for row in ai.models.search(**filters)}


async def test_filters_select_models() -> None:
    async with Server() as server, client(server) as ai:
        assert await names(ai, task="Text Embeddings") == set(models("Text Embeddings"))
        assert await names(ai, task="text embeddings", search="BGE small") == {
            "@cf/baai/bge-small-en-v1.5"
        }
        assert await names(ai, author="openai") == {
            name for name in TASKS if name.startswith("@cf/openai/")
        }
        assert await names(ai, source=1) == LISTED
        assert await names(ai, source=2) == set()
        assert await names(ai, search="no such thing") == set()
        everything = await names(ai, hide_experimental=True, include_deprecated=True)
        assert everything == LISTED


async def test_rows_have_the_documented_fields(local: Local) -> None:
    status, document = await get(local, "models/search?search=mistral-7b-instruct-v0.2-lora")
    assert (status, document["success"], document["errors"]) == (200, True, [])
    (row,) = document["result"]
    assert set(row) == {"id", "source", "name", "description", "task", "tags", "properties"}
    assert set(row["task"]) == {"id", "name", "description"}
    assert row["properties"] == [{"property_id": "lora", "value": "true"}]


async def test_models_that_support_fine_tunes_are_marked() -> None:
    async with Server() as server, client(server) as ai:
        supporting = {row.name async for row in ai.models.search() if row.lora}
        assert supporting == {name for name in TASKS if name.endswith("-lora")}


async def test_tasks_and_authors_are_listed() -> None:
    async with Server() as server, client(server) as ai:
        assert [task.name for task in await ai.models.tasks().to_list()] == sorted(
            set(TASKS.values())
        )
        authors = {author.name for author in await ai.models.authors().to_list()}
        assert authors == {name.split("/")[1] for name in LISTED}


async def test_a_schema_matches_the_rules_of_the_task() -> None:
    async with Server() as server, client(server) as ai:
        schema = await ai.models.schema("@cf/baai/bge-base-en-v1.5")
        assert schema.input
        assert schema.input["required"] == ["text"]
        single, several = schema.input["properties"]["text"]["oneOf"]
        assert single == {"type": "string", "minLength": 1}
        assert several == {"type": "array", "items": single, "minItems": 1}
        reranker = await ai.models.schema("@cf/baai/bge-reranker-base")
        assert reranker.input
        assert reranker.input["required"] == ["query", "contexts"]


VALUES: list[Any] = [
    *("", "a", "cls", "mean", "low", "x" * 5000, "y" * 500_000),
    *(-2.5, -2, -1, 0, 0.0005, 0.001, 0.5, 1, 1.5, 2, 5, 5.1, 20, 21, 50, 51, 256, 2048, 2049),
    *(9999999999, 10000000000, True, False),
    *([], ["a"], [""], ["a"] * 101, [1], {}, {"a": 1}),
]


@pytest.mark.parametrize("task", sorted({task for task in TASKS.values() if task != "Dumb Pipe"}))
async def test_the_schemas_allow_what_the_rules_allow(task: str) -> None:
    """Of each field of every task of a kind that a schema can describe, at the edges, too."""
    model = next(name for name in sorted(TASKS) if TASKS[name] == task)
    async with Server() as server, client(server) as ai:
        document = (await ai.models.schema(model)).input
    assert document is not None
    served = find_model(model)
    assert served is not None
    schemas = document.get("oneOf", [document])
    types = _INPUTS.get(served.task, _INPUTS.get(task, ()))
    assert len(types) == (len(schemas) if types else 0)
    for schema, kind in zip(schemas if types else [], types, strict=True):
        fields = {name: rule for name, rule in rules(kind).items() if not rule.translated}
        assert schema["properties"].keys() == fields.keys()
        required = [name for name, rule in fields.items() if rule.required]
        assert schema.get("required", []) == required
        for name, rule in fields.items():
            if rule.kind in ("media", "JSON", "list", "mapping"):
                continue
            for value in VALUES:
                allowed = Draft202012Validator(schema["properties"][name]).is_valid(value)
                try:
                    rule.check(value)
                except InputError:
                    # Rules between fields and the contents of lists are not in the schema.
                    assert not allowed or rule.kind not in ("text", "number", "integer", "boolean")
                else:
                    assert allowed, (name, value)


async def test_the_schema_of_a_chat_has_the_fields_of_the_request() -> None:
    async with Server() as server, client(server) as ai:
        schema = await ai.models.schema("@cf/google/gemma-4-26b-a4b-it")
        assert schema.input
        for form in schema.input["oneOf"]:
            assert "thinking" not in form["properties"]
            assert form["properties"]["reasoning_effort"] == {"type": ["string", "null"]}
            assert form["properties"]["n"] == {"type": "integer", "minimum": 1, "maximum": 1}


@pytest.mark.parametrize(
    "model", sorted(set({task: name for name, task in TASKS.items()}.values()))
)
async def test_every_task_has_a_schema(model: str) -> None:
    async with Server() as server, client(server) as ai:
        schema = await ai.models.schema(model)
        assert schema.input
        assert schema.input["type"] == "object"
        assert schema.output is not None


async def test_an_unknown_model_has_no_schema() -> None:
    async with Server() as server, client(server) as ai:
        with pytest.raises(BadRequest) as caught:
            await ai.models.schema("@cf/no/such")
        assert caught.value.code == 5007


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("page=0", 400, 90003),
        ("per_page=0", 400, 90003),
        ("per_page=x", 400, 90003),
        ("source=x", 400, 90003),
        ("hide_experimental=1", 400, 90003),
        ("format=openrouter", 501, 90001),
    ],
)
async def test_an_invalid_filter_is_named_in_the_error(
    local: Local, query: str, status: int, code: int
) -> None:
    actual, document = await get(local, f"models/search?{query}")
    assert (actual, document["errors"][0]["code"]) == (status, code)
    assert query.partition("=")[0] in document["errors"][0]["message"] or status == 501
