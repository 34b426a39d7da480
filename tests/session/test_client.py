"""Copies of clients: what they share, what they own, and that secrets never reach a pickle."""

import asyncio
import copy
import dataclasses
import pickle
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from cfai import Cohere, Prompt, WorkersAI
from cfai.errors import BudgetExceeded, ConfigError
from cfai.settings import Gateway, Retries, Timeouts
from cfai.testing import FakeWorkersAI

MODEL = "@cf/meta/llama-3.1-8b-instruct-fast"
PROMPT = Prompt("Hello?")
OK = {"response": "Hello"}


async def ask(client: WorkersAI) -> str:
    return (await client.run(MODEL, PROMPT)).text


@dataclasses.dataclass
class Holder:
    """An object of the user that has a client, such as the state of an agent."""

    client: WorkersAI


DEEP_COPIES: dict[str, Callable[[WorkersAI], WorkersAI]] = {
    "deepcopy": copy.deepcopy,
    "asdict": lambda client: dataclasses.asdict(Holder(client))["client"],
    "in a container": lambda client: copy.deepcopy({"a": [client]})["a"][0],
    "of a copy": lambda client: copy.deepcopy(client.with_options()),
    "of a shallow copy": lambda client: copy.deepcopy(copy.copy(client)),
}


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("name", DEEP_COPIES)
async def test_a_deep_copy_works_on_its_own(fake: FakeWorkersAI, name: str, used: bool) -> None:
    """With the same settings and credentials, and connections of its own."""
    fake.always.answers(OK)
    client = fake.client(headers={"X-Own": "1"}, gateway=Gateway("g", authorization="gw-token"))
    if used:
        await ask(client)
    async with DEEP_COPIES[name](client) as copied:
        assert await ask(copied) == "Hello"
        assert fake.accepted == (2 if used else 1)
        assert await ask(client) == "Hello"
    await fake.until(lambda: fake.connections == 1)
    assert await ask(client) == "Hello"
    with pytest.raises(ConfigError, match="closed"):
        await ask(copied)
    first = fake.requests[0].headers
    assert all(request.headers == first for request in fake.requests)
    assert first["Authorization"] == "Bearer fake-api-token"
    assert first["cf-aig-authorization"] == "Bearer gw-token"


async def test_a_deep_copy_of_a_closed_client_is_open(fake: FakeWorkersAI) -> None:
    fake.always.answers(OK)
    client = fake.client()
    await client.aclose()
    async with copy.deepcopy(client) as copied:
        assert await ask(copied) == "Hello"


async def test_a_container_keeps_one_copy_for_one_client(fake: FakeWorkersAI) -> None:
    """As `deepcopy` does with all objects."""
    client = fake.client()
    first, second = copy.deepcopy([client, client])
    assert first is second is not client


async def test_a_deep_copy_has_the_same_limits(fake: FakeWorkersAI) -> None:
    fake.always.answers(OK)
    copied = copy.deepcopy(fake.client(limit=1, concurrency=1))
    async with copied:
        assert await asyncio.gather(*[ask(copied) for _ in range(3)]) == ["Hello"] * 3
    assert fake.accepted == 1


async def test_all_copies_share_the_budget(fake: FakeWorkersAI) -> None:
    """An object that is copied for each request must not spend the budget each time."""
    fake.always.answers({"response": "Hi", "usage": {"neurons": 3}}, headers={"cf-ai-neurons": "3"})
    client = fake.client(budget=1)
    await ask(client)
    for copied in (copy.copy(client), copy.deepcopy(client)):
        assert copied.spent == client.spent
        with pytest.raises(BudgetExceeded):
            await ask(copied)
        await copied.aclose()


async def test_a_deep_copy_shares_what_is_the_users(fake: FakeWorkersAI) -> None:
    """Callbacks, observers and the session are used as they are."""
    fake.always.answers(OK)
    calls: list[str] = []

    class Own:
        def __deepcopy__(self, memo: Any) -> "Own":
            raise AssertionError("copied")

        def observe(self, call: Any) -> None:
            calls.append(call.model)

        def on_retry(self, retry: Any) -> None:
            calls.append("retry")

    own = Own()
    async with aiohttp.ClientSession() as session:
        client = fake.client(
            session=session,
            observers=[own.observe],
            retries=Retries(base=0.001, on_retry=own.on_retry),
            timeouts=Timeouts(response=9),
        )
        fake.fails(503, 0, "down")
        async with copy.deepcopy(client) as copied:
            assert await ask(copied) == "Hello"
        assert not session.closed
    assert calls == [MODEL, "retry"]


async def test_a_shallow_copy_shares_the_connections(fake: FakeWorkersAI) -> None:
    """It does not close them; like `with_options()`."""
    fake.always.answers(OK)
    client = fake.client()
    async with copy.copy(client) as copied:
        assert await ask(copied) == "Hello"
    assert await ask(client) == "Hello"
    assert fake.accepted == 1


async def test_the_resources_of_a_client_can_be_copied(fake: FakeWorkersAI) -> None:
    """They hold the client's account."""
    fake.always.answers([])
    for resource in (fake.client().finetunes, fake.client().models):
        assert copy.deepcopy(resource) is not resource


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("used", [False, True])
async def test_a_client_refuses_to_be_pickled(
    fake: FakeWorkersAI, protocol: int, used: bool
) -> None:
    """With a sentence that says what to do; a pickle would contain the credentials."""
    fake.always.answers(OK)
    client = fake.client()
    if used:
        await ask(client)
    for value in (client, [client], Holder(client), client.with_options()):
        with pytest.raises(TypeError, match="create a WorkersAI in the other process"):
            pickle.dumps(value, protocol)
    for resource in (client.finetunes, client.models):
        with pytest.raises(TypeError, match="create a client in the other process"):
            pickle.dumps(resource, protocol)


@pytest.mark.filterwarnings("ignore:Cohere deprecated")
async def test_coheres_client_copies_likewise(fake: FakeWorkersAI) -> None:
    fake.always.answers([])
    client = Cohere(api_key="cohere-key", base_url=fake.origin)
    async with client, copy.deepcopy(client) as copied, copy.copy(client) as shared:
        for caller in (client, copied, shared):
            with pytest.raises(Exception, match="finetuned_models"):
                await anext(aiter(caller.finetuned_models()))
    keys = {request.headers["Authorization"] for request in fake.requests}
    assert (keys, fake.accepted) == ({"Bearer cohere-key"}, 2)
    with pytest.raises(TypeError, match="create a Cohere in the other process"):
        pickle.dumps(client)
