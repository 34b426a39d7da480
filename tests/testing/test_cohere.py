"""The fake of Cohere's fine-tuning API, asked over HTTP as any client would."""

import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from attrs import frozen

from cfai import CfaiError
from cfai.cohere import Cohere
from cfai.testing import FakeCohere

ROOT = "/v1/finetuning/finetuned-models"
SETTINGS = {"dataset_id": "d", "base_model": {"base_type": "BASE_TYPE_CHAT"}}


@frozen
class Api:
    fake: FakeCohere
    http: aiohttp.ClientSession

    async def ask(
        self,
        method: str,
        path: str = "",
        *,
        body: Any = None,
        key: str = "Bearer any",
        **query: str,
    ) -> tuple[int, Any]:
        url = f"{self.fake.base_url}{ROOT}{path}"
        async with self.http.request(
            method, url, json=body, params=query, headers={"Authorization": key}
        ) as response:
            assert response.content_type == "application/json"
            return response.status, await response.json()

    async def names(self, **query: str) -> list[str]:
        status, page = await self.ask("GET", **query)
        assert status == 200, page
        return [model["name"] for model in page["finetuned_models"]]


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with FakeCohere() as fake, aiohttp.ClientSession() as http:
        yield Api(fake, http)


async def test_a_model_from_its_creation_to_its_deletion(api: Api) -> None:
    status, created = await api.ask("POST", body={"name": "a", "settings": SETTINGS})
    model = created["finetuned_model"]
    assert status == 200
    assert (model["name"], model["settings"], model["status"]) == ("a", SETTINGS, "STATUS_QUEUED")
    assert len({model["id"], model["creator_id"], model["organization_id"]}) == 3
    for name in ("created_at", "updated_at"):
        age = datetime.now(UTC) - datetime.fromisoformat(model[name])
        assert 0 <= age.total_seconds() < 60
        assert model[name].endswith("Z")
    path = f"/{model['id']}"
    assert await api.ask("GET", path) == (200, created)

    other = {**SETTINGS, "dataset_id": "e"}
    status, changed = await api.ask("PATCH", path, body={"name": "b", "settings": other})
    assert status == 200
    assert changed["finetuned_model"]["name"] == "b"
    assert changed["finetuned_model"]["settings"] == other
    assert changed["finetuned_model"]["created_at"] == model["created_at"]
    assert changed["finetuned_model"]["updated_at"] > model["updated_at"]
    assert await api.ask("GET", path) == (200, changed)

    assert await api.ask("PUT", path) == (405, {"message": "method not allowed"})
    assert await api.ask("DELETE", path) == (200, {})
    assert await api.ask("GET", path) == (
        404,
        {"message": f"finetuned model {model['id']} not found"},
    )


async def test_a_key_is_required(api: Api) -> None:
    for key in ("", "any", "Basic any"):
        assert await api.ask("GET", key=key) == (401, {"message": "no api key supplied"})


@pytest.mark.parametrize("path", ["/a/b/c", "/a/nothing", "//"])
async def test_other_paths_are_not_found(api: Api, path: str) -> None:
    status, body = await api.ask("GET", path)
    assert (status, "not found" in body["message"]) == (404, True)
    async with api.http.get(
        f"{api.fake.base_url}/v2/models", headers={"Authorization": "Bearer any"}
    ) as response:
        assert response.status == 404
        assert await response.json() == {"message": "404 page not found: /v2/models"}


async def test_models_are_added_without_a_request(api: Api) -> None:
    model_id = api.fake.adds("a")
    assert api.fake.models[model_id]["settings"] == {
        "base_model": {"base_type": "BASE_TYPE_CHAT"},
        "dataset_id": "dataset",
    }
    assert api.fake.models[model_id]["status"] == "STATUS_QUEUED"
    assert not api.fake.requests
    assert await api.names() == ["a"]
    assert [request.path for request in api.fake.requests] == [ROOT]


async def test_models_are_listed_in_pages(api: Api) -> None:
    """Without a size, 50 in a page; the last page has no token."""
    names = [f"{number:02}" for number in range(51)]
    for name in names:
        api.fake.adds(name)
    _, page = await api.ask("GET")
    assert [model["name"] for model in page["finetuned_models"]] == names[:50]
    assert page["total_size"] == 51
    _, last = await api.ask("GET", page_token=page["next_page_token"])
    assert [model["name"] for model in last["finetuned_models"]] == names[50:]
    assert "next_page_token" not in last
    _, exact = await api.ask("GET", page_size="51")
    assert len(exact["finetuned_models"]) == 51
    assert "next_page_token" not in exact


async def test_the_order_of_a_list(api: Api) -> None:
    """The first that was created comes first. Of several fields, the first counts most."""
    for name in ("b", "c", "a", "b"):
        api.fake.adds(name)
    ids = list(api.fake.models)
    assert await api.names() == ["b", "c", "a", "b"]
    assert await api.names(order_by="name") == ["a", "b", "b", "c"]
    assert await api.names(order_by="name desc") == ["c", "b", "b", "a"]
    assert await api.names(order_by="created_at desc") == ["b", "a", "c", "b"]
    _, page = await api.ask("GET", order_by="name,created_at desc")
    assert [model["id"] for model in page["finetuned_models"]] == [ids[2], ids[3], ids[0], ids[1]]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"order_by": "size"}, "invalid order_by: size"),
        ({"order_by": "name up"}, "invalid order_by: name up"),
        ({"page_size": "many"}, "invalid page_size or page_token"),
        ({"page_size": "-1"}, "invalid page_size or page_token"),
        ({"page_token": "?"}, "invalid page_size or page_token"),
        ({"page_token": base64.b64encode(b"-1").decode()}, "invalid page_size or page_token"),
    ],
)
async def test_wrong_queries_are_refused(api: Api, query: dict[str, str], message: str) -> None:
    assert await api.ask("GET", **query) == (400, {"message": message})


async def test_events_and_metrics_of_a_model(api: Api) -> None:
    """Steps count from 0, zeros are left out, and the list of metrics has no total."""
    model_id = api.fake.adds("a")
    api.fake.happens(model_id, "STATUS_FINETUNING")
    assert api.fake.models[model_id]["status"] == "STATUS_FINETUNING"
    status, page = await api.ask("GET", f"/{model_id}/events")
    assert (status, page["total_size"]) == (200, 2)
    assert [event["status"] for event in page["events"]] == ["STATUS_QUEUED", "STATUS_FINETUNING"]
    assert all(event["created_at"] for event in page["events"])

    api.fake.measures(model_id, loss=2.0)
    api.fake.measures(model_id, loss=1.5)
    status, page = await api.ask("GET", f"/{model_id}/training-step-metrics")
    assert (status, "total_size" in page) == (200, False)
    first, second = page["step_metrics"]
    assert "step_number" not in first
    assert (first["metrics"], second["metrics"]) == ({"loss": 2.0}, {"loss": 1.5})
    assert second["step_number"] == 1
    assert (await api.ask("POST", f"/{model_id}/events", body={}))[0] == 404


async def test_refusals_come_before_the_endpoints(api: Api) -> None:
    api.fake.refuses(429, "slow down").refuses(500, "broken")
    assert await api.ask("GET") == (429, {"message": "slow down"})
    assert await api.ask("GET") == (500, {"message": "broken"})
    assert (await api.ask("GET"))[0] == 200


async def test_clients_have_a_key_and_are_closed_with_the_fake() -> None:
    async with FakeCohere() as fake:
        with pytest.warns(DeprecationWarning, match="deprecated fine-tuning"):
            client, other = fake.client(), fake.client(api_key="mine")
        model_id = fake.adds("a")
        for each in (client, other):
            assert (await each.get(model_id)).name == "a"
        assert [request.headers["authorization"] for request in fake.requests] == [
            "Bearer fake-key",
            "Bearer mine",
        ]
    for closed in (client, other):
        assert isinstance(closed, Cohere)
        with pytest.raises(CfaiError, match="the client is closed"):
            await closed.get(model_id)
