"""The official cohere package and cfai work the same with our fake Cohere."""

from __future__ import annotations

from contextlib import AsyncExitStack
from importlib.util import find_spec

import pytest

from cfai.cohere import BaseModel, BaseType, Cohere, Hyperparameters, Settings
from cfai.testing import FakeCohere

pytestmark = pytest.mark.skipif(find_spec("cohere") is None, reason="needs the package cohere")

SETTINGS = {"base_model": {"base_type": "BASE_TYPE_CHAT"}, "dataset_id": "d"}
OURS = Settings(BaseModel(BaseType.RERANK), "d", hyperparameters=Hyperparameters(train_epochs=1))


@pytest.mark.filterwarnings("default")
async def test_both_clients_see_the_same() -> None:
    """Created by one, read by the other: models, pages, histories and refusals."""
    import cohere

    async with FakeCohere() as fake, AsyncExitStack() as stack:
        ours: Cohere = fake.client(client_name="name")
        client = cohere.AsyncClient(api_key="fake-key", base_url=fake.base_url, client_name="name")
        theirs = (await stack.enter_async_context(client)).finetuning
        first = (
            await theirs.create_finetuned_model(request={"name": "a", "settings": SETTINGS})
        ).finetuned_model
        second = await ours.create("b", OURS)
        assert second.id is not None
        fake.happens(second.id, "STATUS_READY")
        fake.measures(second.id, loss=0.5)
        fake.measures(second.id, loss=0.25)

        rows = await ours.finetuned_models(page_size=1, order_by="created_at desc,name").to_list()
        assert [row.id for row in rows] == [second.id, first.id]
        page = await theirs.list_finetuned_models(page_size=1, order_by="created_at desc,name")
        assert [row.id for row in page.finetuned_models] == [second.id]
        our_request, their_request = fake.requests[-3], fake.requests[-1]
        assert our_request.path == their_request.path
        assert our_request.query == their_request.query

        events = (await theirs.list_events(second.id)).events
        mine = await ours.events(second).to_list()
        assert [(row.status, row.created_at) for row in events] == [
            (row.status, row.created_at) for row in mine
        ]
        steps = (await theirs.list_training_step_metrics(second.id)).step_metrics
        assert [row.metrics for row in steps] == [
            row.metrics for row in await ours.training_step_metrics(second).to_list()
        ]

        await theirs.update_finetuned_model(second.id, name="c", settings=SETTINGS)
        assert (await ours.get(second)).name == "c"
        await ours.delete(second)
        with pytest.raises(cohere.NotFoundError):
            await theirs.get_finetuned_model(second.id)
        heads = ("Authorization", "X-Client-Name")
        assert (
            len({tuple(request.headers[head] for head in heads) for request in fake.requests}) == 1
        )
