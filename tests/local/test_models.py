"""The model catalogue, requested with `WorkersAI` and with plain HTTP."""

from typing import Any

import pytest

from cfai import BadRequest, WorkersAI
from cfai.local import Server
from cfai.profiles import TASKS, models

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
