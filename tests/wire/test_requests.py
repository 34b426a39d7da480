"""Requests: paths, headers and options, before any socket is involved."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, strategies as st
from yarl import URL

import cfai
from cfai._types.json import loads
from cfai._validators import check_account_id, check_segment
from cfai._wire.requests import (
    Request,
    account_path,
    build_gateway_headers,
    build_headers,
    build_run_request,
    check_model_name,
    has_media,
)
from cfai.errors import InputError
from cfai.settings import Credentials, Gateway, Options, Settings
from cfai.tasks import (
    ImagePart,
    ImageToText,
    MultimodalEmbeddings,
    Prompt,
    Task,
    TextEmbeddings,
    TextGeneration,
    user,
)

LLAMA = "@cf/meta/llama-3.1-8b-instruct-fast"
BGE = "@cf/baai/bge-base-en-v1.5"
HI = Prompt("Hi")


def settings(**changes: Any) -> Settings:
    defaults: dict[str, Any] = {
        "account_id": "0123456789abcdef0123456789abcdef",
        "credentials": Credentials(api_token="t0ken"),
        "base_url": "https://api.cloudflare.com/client/v4",
    }
    return Settings(**(defaults | changes))


def build_run(
    task: Task[Any] | Mapping[str, Any] = HI,
    model: str = LLAMA,
    *,
    stream: bool = False,
    options: Options | None = None,
    **changes: Any,
) -> Request:
    return build_run_request(settings(**changes), model, task, stream=stream, options=options)


def test_a_run_byte_for_byte() -> None:
    """The official SDK sends `@cf%2Fmeta%2F…` here, and gets 400 (code 7000)."""
    request = build_run()
    assert request.method == "POST"
    assert request.path == (
        "/accounts/0123456789abcdef0123456789abcdef/ai/run/@cf/meta/llama-3.1-8b-instruct-fast"
    )
    assert request.headers == {
        "User-Agent": f"cfai/{cfai.__version__}",
        "Authorization": "Bearer t0ken",
        "Content-Type": "application/json",
    }
    assert request.body == b'{"prompt":"Hi"}'
    assert request.body == b'{"prompt":"Hi"}'
    assert request.repeatable


def test_email_and_key_are_sent_in_their_headers() -> None:
    """Workers AI API, "Security"."""
    request = build_run(credentials=Credentials(api_email="user@example.com", api_key="144c9d"))
    assert request.headers["X-Auth-Email"] == "user@example.com"
    assert request.headers["X-Auth-Key"] == "144c9d"
    assert "Authorization" not in request.headers


def test_a_request_does_not_show_its_secrets_or_its_body() -> None:
    shown = repr(build_run(Prompt("private")))
    assert "t0ken" not in shown
    assert "private" not in shown


# Streams


def test_a_stream_is_requested_in_the_body_and_by_its_type() -> None:
    """Uncompressed: whoever compresses a stream buffers it."""
    request = build_run(stream=True)
    assert request.body == b'{"prompt":"Hi","stream":true}'
    assert request.headers["Accept"] == "text/event-stream"
    assert request.headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    ("task", "stream", "body"),
    [
        (Prompt("Hi", stream=True), True, {"prompt": "Hi", "stream": True}),
        (Prompt("Hi", stream=False), True, {"prompt": "Hi", "stream": True}),
        (Prompt("Hi", stream=True), False, {"prompt": "Hi", "stream": False}),
        (Prompt("Hi", stream=False), False, {"prompt": "Hi", "stream": False}),
        ({"prompt": "Hi"}, True, {"prompt": "Hi", "stream": True}),
        ({"prompt": "Hi", "stream": True}, False, {"prompt": "Hi", "stream": False}),
        ({"prompt": "Hi"}, False, {"prompt": "Hi"}),
    ],
)
def test_the_caller_decides_over_the_task(
    task: Task[Any] | Mapping[str, Any], stream: bool, body: Any
) -> None:
    """The task itself is not changed."""
    before = dict(task) if isinstance(task, Mapping) else task
    request = build_run(task, stream=stream)
    assert isinstance(request.body, bytes)
    assert loads(request.body) == body
    assert task == before


# The path


@pytest.mark.parametrize("model", ["", "@cf/..", "@cf/a?b", "@cf/a#b", "@cf%2Fa", "@cf/a b", "a\n"])
def test_a_model_that_is_not_a_path_is_refused(model: str) -> None:
    with pytest.raises(InputError, match="model"):
        build_run(model=model)


@pytest.mark.parametrize("account", ["", "..", "a/b", "a?b", "a b", "a\r\nHost: x"])
def test_an_account_that_is_not_a_segment_is_refused_and_not_shown(account: str) -> None:
    with pytest.raises(InputError, match="account_id must"):
        build_run(account_id=account)


def test_a_path_below_the_account() -> None:
    assert account_path(settings(account_id="a"), "finetunes") == "/accounts/a/ai/finetunes"


# The gateway


def test_a_gateway_is_configured_by_headers() -> None:
    """Cloudflare docs, AI Gateway, "Request headers"; four more: gateway-core's own list; payloads:
    changelog of 2026-03-17; the last five: "Auto Router"."""
    gateway = Gateway(
        "my-gateway",
        skip_cache=True,
        cache_ttl=3600,
        cache_key="key",
        collect_log=False,
        request_timeout=10_000,
        max_attempts=5,
        retry_delay=5000,
        backoff="exponential",
        metadata={"user": "näme 名", "n": 1, "vip": True, "none": None},
        event_id="event",
        byok_alias="alias",
        zdr=True,
        authorization="g4teway",
        collect_log_payload=False,
        allowed_models=["anthropic/*", "@cf/openai/gpt-oss-20b"],
        allowed_providers=["openai", "anthropic"],
        session_id="session",
        turn_id="turn",
        no_session_affinity=True,
    )
    assert build_gateway_headers(gateway) == {
        "cf-aig-gateway-id": "my-gateway",
        "cf-aig-skip-cache": "true",
        "cf-aig-cache-ttl": "3600",
        "cf-aig-cache-key": "key",
        "cf-aig-collect-log": "false",
        "cf-aig-request-timeout": "10000",
        "cf-aig-max-attempts": "5",
        "cf-aig-retry-delay": "5000",
        "cf-aig-backoff": "exponential",
        # A header is ASCII; JSON can be.
        "cf-aig-metadata": r'{"user":"n\u00e4me \u540d","n":1,"vip":true,"none":null}',
        "cf-aig-event-id": "event",
        "cf-aig-byok-alias": "alias",
        "cf-aig-zdr": "true",
        "cf-aig-authorization": "Bearer g4teway",
        "cf-aig-collect-log-payload": "false",
        "cf-aig-allowed-models": "anthropic/*,@cf/openai/gpt-oss-20b",
        "cf-aig-allowed-providers": "openai,anthropic",
        "cf-aig-session-id": "session",
        "cf-aig-turn-id": "turn",
        "cf-aig-no-session-affinity": "true",
    }
    assert set(build_gateway_headers(gateway)) < set(build_run(gateway=gateway).headers)
    assert build_gateway_headers(Gateway("g")) == {"cf-aig-gateway-id": "g"}


@pytest.mark.parametrize("value", [object(), b"a", float("nan"), float("inf")])
def test_metadata_that_is_not_json_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match="JSON object"):
        Gateway("g", metadata={"a": value})


# Options


def test_every_option_is_sent() -> None:
    """Cloudflare docs, "Reject if busy" and "Prompt caching"; tags: workerd, ai.d.ts."""
    request = build_run(
        options=Options(
            session_affinity="chat-1",
            reject_if_busy=True,
            tags=["team:search", "a/b@c.d-e"],
            headers={"x-mine": "1"},
        )
    )
    assert request.headers["x-session-affinity"] == "chat-1"
    assert request.headers["x-mine"] == "1"
    assert request.body == b'{"prompt":"Hi","options":{"rejectIfBusy":true}}'
    assert request.path.endswith(
        "/@cf/meta/llama-3.1-8b-instruct-fast?tags=team%3Asearch%2Ca%2Fb%40c.d-e"
    )


def test_options_of_a_stream_and_of_a_mapping() -> None:
    busy = Options(reject_if_busy=False)
    assert build_run(stream=True, options=busy).body == (
        b'{"prompt":"Hi","stream":true,"options":{"rejectIfBusy":false}}'
    )
    assert build_run({"a": 1}, options=busy).body == b'{"a":1,"options":{"rejectIfBusy":false}}'
    assert build_run(options=Options()).path == build_run().path


@pytest.mark.parametrize(
    "task", [{"options": {"a": 1}}, {"options": {"a": 1, "rejectIfBusy": False}}]
)
def test_options_of_the_task_are_merged_with_those_of_the_call(task: dict[str, Any]) -> None:
    """If both set the same option, that of the call is used."""
    before = {"options": dict(task["options"])}
    busy = Options(reject_if_busy=True)
    assert build_run(task, options=busy).body == b'{"options":{"a":1,"rejectIfBusy":true}}'
    assert build_run(Prompt("Hi", extra=task), options=busy).body == (
        b'{"prompt":"Hi","options":{"a":1,"rejectIfBusy":true}}'
    )
    assert task == before


def test_options_of_the_task_that_are_not_a_mapping_are_refused() -> None:
    busy = Options(reject_if_busy=True)
    assert build_run({"options": None}, options=busy).body == b'{"options":{"rejectIfBusy":true}}'
    with pytest.raises(
        InputError, match="options must be a mapping if reject_if_busy is set, got 'x'"
    ):
        build_run({"options": "x"}, options=busy)


def test_later_headers_replace_earlier_ones_in_any_case() -> None:
    """Names are compared without case: credentials must not be sent twice."""
    request = build_run(
        headers={"X-Mine": "client", "user-agent": "me/1", "CF-AIG-cache-ttl": "1"},
        gateway=Gateway("g", cache_ttl=3600),
        options=Options(
            headers={"x-mine": "call", "authorization": "Bearer other", "content-type": "text/x"}
        ),
    )
    assert request.headers == {
        "user-agent": "me/1",
        "authorization": "Bearer other",
        "cf-aig-gateway-id": "g",
        "CF-AIG-cache-ttl": "1",
        "x-mine": "call",
        # The type belongs to the body, with the boundary of a form in it.
        "Content-Type": "application/json",
    }


@pytest.mark.parametrize(
    "name",
    ["", " ", "a b", "a:b", "a\n", "ä", "Host", "content-LENGTH", "Transfer-Encoding", 5, None],
)
def test_an_invalid_header_name_is_refused(name: Any) -> None:
    with pytest.raises(InputError, match="headers must not contain"):
        build_run(headers={name: "a"})
    with pytest.raises(InputError, match="headers must not contain"):
        build_run(options=Options(headers={name: "a"}))


@pytest.mark.parametrize(
    "value",
    ["s3cret\r\nX: y", "s3cret\n", "\rs3cret", "s3cret\0", "s3cret ", "s3\u2028", 5, None, b"a"],
)
def test_a_value_of_several_lines_is_refused_and_not_shown(value: Any) -> None:
    """It could add a second header, and it may be a secret with a stray line end."""
    with pytest.raises(
        InputError, match="the value of the header x-key must be a string of one line"
    ) as caught:
        build_run(headers={"x-key": value})
    assert "s3" not in str(caught.value)
    with pytest.raises(InputError):
        build_run(options=Options(session_affinity=value or "\n"))


def test_an_empty_value_is_allowed() -> None:
    assert build_headers(settings(headers={"x-a": ""}), None, {})["x-a"] == ""


# Tasks that are defaults not to work


def test_too_many_texts_for_a_model_are_refused() -> None:
    """100 for the bge models, 32 for qwen3-embedding; other models are not limited."""
    assert build_run(TextEmbeddings(["a"] * 100), BGE)
    with pytest.raises(InputError, match=r"text must have at most 100 texts .* got 101"):
        build_run(TextEmbeddings(["a"] * 101), BGE)
    with pytest.raises(InputError, match=r"text must have at most 32 texts .* got 33"):
        build_run(TextEmbeddings(["a"] * 33), "@cf/qwen/qwen3-embedding-0.6b")
    assert build_run(TextEmbeddings("a" * 1000), BGE)
    assert build_run(TextEmbeddings(["a"] * 5000), "@cf/google/embeddinggemma-300m")
    assert build_run({"text": ["a"] * 5000}, BGE)


def test_a_model_that_uses_websockets_is_refused() -> None:
    with pytest.raises(InputError, match="WebSockets"):
        build_run({}, "@cf/deepgram/flux")


@pytest.mark.parametrize(
    ("task", "blocks"),
    [
        (Prompt("a"), False),
        ({"image": b"a"}, False),
        (TextGeneration([user("a")]), False),
        (TextGeneration([user("a", ImagePart("/no/such/file"))]), True),
        (ImageToText(b"a"), True),
        (MultimodalEmbeddings(text=["a"]), True),
    ],
)
def test_a_task_that_reads_or_encodes_media_blocks(task: Any, blocks: bool) -> None:
    """Its request is built in a thread."""
    assert has_media(task) is blocks


def test_two_calls_do_not_share_their_headers() -> None:
    first, second = build_run(headers={"x-a": "1"}), build_run()
    assert "x-a" in first.headers
    assert "x-a" not in second.headers


# Names in paths

BAD = [
    "", ".", "..", "a?b", "a#b", "a%b", "a%2Fb", "a b", " a", "a ", "\ta", "a\n", "a\r\nX: y",
    "a\0", "\x7f", "a\x85", "ä", "a\u2028", "a\\b", 'a"b', "a<b", "a[b]", "a^b", "a`b", "{a}",
    "a|b", "\ud800", "．．", "a\u200b",
]  # fmt: skip
"""Names that are not one segment of a path, or change when a path is normalised."""

GOOD = [
    "a",
    "A-Z_a.z~0",
    "...",
    "..a",
    "a..",
    "@cf",
    "a:b",
    "a+b",
    "a=b",
    "a,b;c",
    "(a)",
    "a'b*!&$",
]


@pytest.mark.parametrize("name", GOOD)
def test_a_valid_name_is_kept(name: str) -> None:
    assert check_segment("id", name) == name
    assert check_account_id(name) == name
    assert check_model_name(name) == name
    assert check_model_name(f"@cf/{name}/x") == f"@cf/{name}/x"


@pytest.mark.parametrize("name", [*BAD, "a/b", "/", "../a"])
def test_an_invalid_name_is_refused(name: str) -> None:
    """The message contains the name, the rule and the value, but no account id."""
    with pytest.raises(InputError, match="finetune must") as caught:
        check_segment("finetune", name)
    assert repr(name) in str(caught.value)
    with pytest.raises(InputError, match="account_id must"):
        check_account_id(name)


@pytest.mark.parametrize(
    "model",
    [
        *BAD, *(f"@cf/{part}/x" for part in BAD), *(f"@cf/x/{part}" for part in BAD), "/", "/a",
        "a/", "a//b", "@cf/../../accounts/x", "@cf/./x", "https://x/y",
    ],
)  # fmt: skip
def test_every_part_of_a_model_name_is_checked(model: str) -> None:
    with pytest.raises(InputError, match="each part of model between slashes must"):
        check_model_name(model)


@pytest.mark.parametrize(
    "model",
    [
        "@cf/meta/llama-3.1-8b-instruct-fast",
        "@hf/thebloke/mistral-7b",
        "@cf/black-forest-labs/flux-1-schnell",
        "anthropic/claude-sonnet-4.5",
        "some-model:latest",
    ],
)
def test_a_model_name_is_sent_literally(model: str) -> None:
    """The service answers 400 (code 7000) if the slashes or the @ are percent-encoded."""
    assert check_model_name(model) == model
    assert "%" not in check_model_name(model)


@pytest.mark.parametrize("value", [None, 5, b"a", ["a"], True])
@pytest.mark.parametrize(
    "check", [check_model_name, check_account_id, lambda value: check_segment("id", value)]
)
def test_a_name_that_is_not_a_string_is_refused(
    value: object, check: Callable[[object], str]
) -> None:
    with pytest.raises(InputError, match="must be a string"):
        check(value)


def test_an_account_is_never_shown() -> None:
    """It may be a token in the wrong variable."""
    for wrong in ("s3cret token", "s3cret/token", "s3cret\n"):
        with pytest.raises(InputError) as caught:
            check_account_id(wrong)
        assert "s3cret" not in str(caught.value)
        assert str(len(wrong)) in str(caught.value)


def test_a_long_value_is_shown_in_part() -> None:
    with pytest.raises(InputError) as caught:
        check_model_name("ä" * 100_000)
    assert len(str(caught.value)) < 400


@given(st.text(max_size=12))
def test_a_valid_name_stays_one_segment_for_every_url_parser(name: str) -> None:
    """It does not change on the way."""
    try:
        check_segment("id", name)
    except InputError:
        return
    url = URL(f"http://host/a/{name}/b", encoded=True)
    assert url.raw_path == f"/a/{name}/b"
    assert url.raw_parts == ("/", "a", name, "b")
