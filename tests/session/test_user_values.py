"""Every value of the user that becomes part of a header, a path, a host, a query or a form."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from cfai import Cohere, Prompt, WorkersAI
from cfai.errors import ConfigError, InputError, StatusError
from cfai.settings import Gateway, Options, Retries
from cfai.tasks import AutomaticSpeechRecognition
from cfai.testing import FakeCohere, FakeWorkersAI

MODEL = "@cf/meta/llama-3.1-8b-instruct-fast"
PROMPT = Prompt("Hello?")
NO_RETRIES = Retries(max=0)

VALUES = {
    "a control character": "a\x7fb",
    "another control character": "a\x1bb",
    "a zero byte": "a\0b",
    "a line end": "a\r\nX-Evil: 1",
    "half a surrogate pair": "a\ud800b",
    "a space in front": " a",
    "another script": "日本",
    "an accent": "é",
    "a percent sign": "a%2Fb",
    "nothing": "",
}


async def rows(pager: Any) -> list[Any]:
    return [row async for row in pager]


def client(**options: Any) -> WorkersAI:
    return WorkersAI(**{"account_id": "account", "api_token": "the-token", **options})


HEADERS: dict[str, Callable[[str], object]] = {
    "Gateway.cache_key": lambda text: Gateway("g", cache_key=text),
    "Gateway.event_id": lambda text: Gateway("g", event_id=text),
    "Gateway.byok_alias": lambda text: Gateway("g", byok_alias=text),
    "Gateway.session_id": lambda text: Gateway("g", session_id=text),
    "Gateway.turn_id": lambda text: Gateway("g", turn_id=text),
    "Gateway.authorization": lambda text: Gateway("g", authorization=text),
    "Options.session_affinity": lambda text: Options(session_affinity=text),
    "X-Own": lambda text: Options(headers={"X-Own": text}),
    "header X-Own": lambda text: client(headers={"X-Own": text}),
    "the header X-Own": lambda text: client().with_options(headers={"X-Own": text}),
}
"""What is sent in a header as it is, by its name in the message."""

CARRIED = {"an accent", "a percent sign", "nothing"}
"""What a header can carry."""


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", HEADERS)
def test_a_header_is_checked_where_it_is_given(name: str, value: str) -> None:
    """And not only by a call that sends it."""
    if value in CARRIED:
        HEADERS[name](VALUES[value])
        return
    with pytest.raises(InputError) as caught:
        HEADERS[name](VALUES[value])
    assert name in str(caught.value)


def test_a_secret_is_not_shown() -> None:
    """It may be the value of any header."""
    for make in (
        lambda: Gateway("g", authorization="s3cr3t\x7f"),
        lambda: Options(headers={"X-Own": "s3cr3t\x7f"}),
    ):
        with pytest.raises(InputError) as caught:
            make()
        assert "s3cr3t" not in str(caught.value)


NARROW: dict[str, Callable[[str], object]] = {
    "a header's name": lambda text: Options(headers={text: "a"}),
    "account_id": lambda text: client(account_id=text),
    "account_id of with_options": lambda text: client().with_options(account_id=text),
    "api_token": lambda text: client(api_token=text),
    "api_token of with_options": lambda text: client().with_options(api_token=text),
    "api_key": lambda text: client(api_token=None, api_email="a@b.c", api_key=text),
    "api_email": lambda text: client(api_token=None, api_email=text, api_key="the-key"),
    "gateway": lambda text: client(gateway=text),
    "base_url": lambda text: client(base_url=text),
    "a host": lambda text: client(base_url=f"https://{text}"),
    "a label of a host": lambda text: client(base_url=f"https://a.{text}.com"),
    "a proxy": lambda text: client(proxy=f"http://{text}:80"),
    "allowed_models": lambda text: Gateway("g", allowed_models=[text]),
    "allowed_providers": lambda text: Gateway("g", allowed_providers=[text]),
    "tags": lambda text: Options(tags=[text]),
}
"""What is narrower than a header."""

TOKENS = {"api_token", "api_token of with_options", "api_key", "api_email", "gateway",
    "allowed_models", "allowed_providers", "a header's name"}  # fmt: skip
"""Any printable ASCII is possible here."""


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", NARROW)
def test_other_settings_are_checked_where_they_are_given(name: str, value: str) -> None:
    if value == "a percent sign" and name in TOKENS:
        NARROW[name](VALUES[value])
        return
    with pytest.raises((ConfigError, InputError)):
        NARROW[name](VALUES[value])


HOSTS = {
    "example.com", "example.com.", "a_b.example", "xn--bcher-kva.example", "localhost:8080",
    "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:80", "a" * 63 + ".com", "example.com:",
}  # fmt: skip
NO_HOSTS = {
    "", ":80", "[::1]x", "127.0.0.1[::1]", "[::1", "::1", "[a]", "ex\\ample.com", "exa%20mple.com",
    "a" * 64 + ".com", "a..b", ".a", "*", "a b", "127.1", "2130706433", "1.2.3.999", "a:b",
    "a:99999", ".".join(["a" * 50] * 6), "bücher.example",
}  # fmt: skip


@pytest.mark.parametrize("host", sorted(HOSTS))
def test_hosts(host: str) -> None:
    for scheme in ("https", "http"):
        made = client(base_url=f"{scheme}://{host}/v4", allow_insecure=True)
        assert repr(made) == f"<WorkersAI {scheme}://{host}/v4>"
    client(proxy=f"http://user:password@{host}")


@pytest.mark.parametrize("host", sorted(NO_HOSTS))
def test_what_is_no_host(host: str) -> None:
    """Neither as the address of the service nor as that of a proxy."""
    for options in ({"base_url": f"https://{host}/v4"}, {"proxy": f"http://user:s3cr3t@{host}"}):
        with pytest.raises(ConfigError, match="must be an http:// or https:// address") as caught:
            client(**options)
        assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("metadata", [{"a": float("nan")}, {"a": object()}, {("a",): 1}])
def test_metadata_must_be_json(metadata: Any) -> None:
    with pytest.raises(InputError, match=r"Gateway\.metadata must be a JSON object"):
        Gateway("g", metadata=metadata)


async def embed(ai: WorkersAI, checkpoint: str) -> None:
    await rows(ai.embed_many("@cf/baai/bge-m3", ["a"], checkpoint=checkpoint))


CALLS: dict[str, Callable[[WorkersAI, str], Any]] = {
    "a model": lambda ai, text: ai.run(text, PROMPT),
    "a streaming model": lambda ai, text: ai.stream(text, PROMPT).collect(),
    "a queued model": lambda ai, text: ai.queue(text, [PROMPT]),
    "a model of vectors": lambda ai, text: ai.embed(text, ["a"]),
    "a model's schema": lambda ai, text: ai.models.schema(text),
    "words of a search": lambda ai, text: rows(ai.models.search(text)),
    "a task of a search": lambda ai, text: rows(ai.models.search(task=text)),
    "an author of a search": lambda ai, text: rows(ai.models.search(author=text)),
    "a fine-tune's model": lambda ai, text: ai.finetunes.create(text, "name"),
    "a fine-tune's name": lambda ai, text: ai.finetunes.create(MODEL, text),
    "a fine-tune's id": lambda ai, text: ai.finetunes.upload(text, b"{}", file_name="a.json"),
    "a fine-tune's file": lambda ai, text: ai.finetunes.upload("id", b"{}", file_name=text),
    "a fine-tune's path": lambda ai, text: ai.finetunes.upload("id", text),
    "a file's name": lambda ai, text: ai.to_markdown((text, b"a")),
    "a file's path": lambda ai, text: ai.to_markdown(text),
    "a sound's path": lambda ai, text: ai.run(
        "@cf/openai/whisper", AutomaticSpeechRecognition(Path(text))
    ),
    "a reference": lambda ai, text: ai.queue(MODEL, {text: PROMPT}),
    "a request's id": lambda ai, text: ai.queued(MODEL, text, [PROMPT]).poll(),
    "metadata": lambda ai, text: ai.run(
        MODEL, PROMPT, options=Options(gateway=Gateway("g", metadata={text: text}))
    ),
    "a field of the query": lambda ai, text: ai.run(
        "@cf/deepgram/nova-3", AutomaticSpeechRecognition(b"a", source_lang=text)
    ),
    "an unknown field of the query": lambda ai, text: ai.run(
        "@cf/deepgram/nova-3", AutomaticSpeechRecognition(b"a", extra={"keywords": text})
    ),
    "a checkpoint": embed,
}


@pytest.fixture
async def ai(
    fake: FakeWorkersAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[WorkersAI]:
    monkeypatch.chdir(tmp_path)
    fake.always.fails(400, 5006, "no")
    async with fake.client(retries=NO_RETRIES) as client:
        yield client


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", CALLS)
async def test_a_call_sends_a_value_or_refuses_it(
    fake: FakeWorkersAI, ai: WorkersAI, name: str, value: str
) -> None:
    """No exception of another library reaches the user."""
    with pytest.raises((InputError, StatusError)) as caught:
        await CALLS[name](ai, VALUES[value])
    assert bool(fake.requests) == isinstance(caught.value, StatusError)
    for request in fake.requests:
        assert "X-Evil" not in request.headers
        assert request.target.isascii()


COHERE_CALLS: dict[str, Callable[[Cohere, str], Any]] = {
    "an id": lambda cohere, text: cohere.get(text),
    "an order": lambda cohere, text: rows(cohere.finetuned_models(order_by=text)),
    "events of an id": lambda cohere, text: rows(cohere.events(text)),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", COHERE_CALLS)
async def test_a_call_of_cohere_sends_a_value_or_refuses_it(name: str, value: str) -> None:
    async with FakeCohere() as fake, fake.client(retries=NO_RETRIES) as cohere:
        with pytest.raises((InputError, StatusError)):
            await COHERE_CALLS[name](cohere, VALUES[value])
    with pytest.raises((InputError, ConfigError)):
        Cohere(api_key="a-key", client_name="a\x7f")
