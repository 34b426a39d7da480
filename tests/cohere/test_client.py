"""The Cohere client over a real socket: its options, its calls, its errors, and its secrets."""

import pickle
import subprocess
import sys
import warnings

import pytest

import cfai
from cfai.cohere import (
    BaseModel,
    Cohere,
    Settings,
    Status,
    WandbConfig,
)
from cfai.errors import (
    AuthenticationError,
    BadRequest,
    CfaiError,
    ConfigError,
    ConnectionLost,
    InputError,
    NotFound,
    PermissionDenied,
    RateLimited,
    ServerError,
    StatusError,
)
from cfai.settings import Gateway, Options
from cfai.testing import FakeCohere

from .data import (
    AT_ONCE,
    NEVER,
    ONE,
    PATH,
    RERANK,
    TRACKED,
    WANDB_KEY,
    client_of,
    shown,
)


def test_creating_a_client_warns() -> None:
    """One warning per client, with the date, that points at the caller."""
    with pytest.warns(DeprecationWarning, match="retired") as caught:
        Cohere(api_key="key")
    (warning,) = caught
    assert "deprecated fine-tuning on 2025-09-15" in str(warning.message)
    assert "will no longer be accessible" in str(warning.message)
    assert warning.filename == __file__


def test_python_shows_the_warning_once() -> None:
    """Like any other warning; imports do not warn."""
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


async def test_calls_do_not_warn(fake: FakeCohere) -> None:
    """Only creating a client does."""
    cohere = client_of(fake)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert await cohere.finetuned_models().to_list() == []


def test_cfai_exports_only_the_client() -> None:
    """The other names are too common."""
    assert cfai.Cohere is Cohere
    assert "BaseModel" not in cfai.__all__
    assert "Event" not in cfai.__all__


async def test_the_environment(fake: FakeCohere, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments take precedence, and an empty variable counts as unset."""
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
def test_invalid_options_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing key, a key that no header can have, an insecure address."""
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
    Cohere(api_key="key", limit=1)
    assert repr(Cohere(api_key="key")) == "<Cohere https://api.cohere.com>"


async def test_the_proxy_of_the_environment_is_used(
    fake: FakeCohere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by `WorkersAI`."""
    monkeypatch.setenv("HTTP_PROXY", fake.base_url)
    fake.script.says(b"{}")
    cohere = client_of(fake, base_url="http://cohere.example", allow_insecure=True)
    assert await cohere.finetuned_models().to_list() == []
    assert fake.requests[0].target == f"http://cohere.example{PATH}"


async def test_headers_of_the_caller_win(fake: FakeCohere) -> None:
    """A call's over the client's, and both over those of the options."""
    cohere = client_of(fake, client_name="one", headers={"X-Client-Name": "two", "X-App": "a"})
    await cohere.finetuned_models().first()
    await cohere.finetuned_models(options=Options(headers={"X-App": "b"})).first()
    sent = [(one.headers["X-Client-Name"], one.headers["X-App"]) for one in fake.requests]
    assert sent == [("two", "a"), ("two", "b")]


async def test_headers(fake: FakeCohere) -> None:
    """The key as a bearer token, and the project's name on every request."""
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
    """Its address with or without /v1, and its token."""
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
async def test_gateway_options_are_not_sent_to_cohere() -> None:
    """Neither the client's nor a call's."""
    gateway = Gateway("my-gateway", authorization="token")
    for host in ("api.cohere.com", "api.cohere.ai", "stg.api.cohere.com:443"):
        with pytest.raises(ConfigError, match="base_url of an AI Gateway"):
            Cohere(api_key="key", base_url=f"https://{host}", gateway=gateway)
    Cohere(api_key="key", base_url="https://notcohere.com", gateway=gateway)
    async with Cohere(api_key="key", base_url="https://api.cohere.com/v1") as cohere:
        with pytest.raises(ConfigError, match="base_url of an AI Gateway"):
            await cohere.get("m", options=Options(gateway=gateway))


async def test_the_fake_sorts(fake: FakeCohere) -> None:
    """By the documented fields only."""
    for name in ("b", "a", "c"):
        fake.adds(name)
    cohere = client_of(fake)
    rows = await cohere.finetuned_models(order_by="name desc,created_at", page_size=2).to_list()
    assert [model.name for model in rows] == ["c", "b", "a"]
    with pytest.raises(BadRequest, match="invalid order_by: color"):
        await cohere.finetuned_models(order_by="color").first()


async def test_create_list_update_delete(fake: FakeCohere) -> None:
    """The life of a model."""
    cohere = client_of(fake)
    model = await cohere.create("rerank-ft", RERANK)
    assert (model.name, model.settings, model.status) == ("rerank-ft", RERANK, Status.QUEUED)
    assert await cohere.finetuned_models().to_list() == [model]
    assert model.id is not None
    fake.happens(model.id, Status.READY)
    assert (await cohere.get(model)).status == Status.READY
    changed = await cohere.update(model, name="better", settings=model.settings)
    assert (changed.id, changed.name) == (model.id, "better")
    await cohere.delete(changed)
    with pytest.raises(NotFound, match=model.id):
        await cohere.get(model.id)
    requests = [f"{request.method} {request.target}" for request in fake.requests]
    assert requests == [
        f"POST {PATH}",
        f"GET {PATH}",
        f"GET {PATH}/{model.id}",
        f"PATCH {PATH}/{model.id}",
        f"DELETE {PATH}/{model.id}",
        f"GET {PATH}/{model.id}",
    ]


async def test_events_and_metrics_of_a_model(fake: FakeCohere) -> None:
    """And of no other model."""
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
    """A status and a message from every endpoint, without advice about Workers AI."""
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


async def test_errors_of_a_gateway(fake: FakeCohere) -> None:
    """They have its form and its code, and advice about that code."""
    fake.script.fails(401, 2009, "Unauthorized")
    with pytest.raises(AuthenticationError, match="cf-aig-authorization"):
        await client_of(fake).get("m")


async def test_create_is_not_repeated(fake: FakeCohere) -> None:
    """After a failure the model may exist; after a refusal it does not."""
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


async def test_other_calls_are_retried(fake: FakeCohere) -> None:
    """Those that can be repeated safely."""
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
    for number in range(7):
        fake.refuses(429, f"refusal {number}")
    with pytest.raises(RateLimited, match="refusal 6"):
        await cohere.finetuned_models().first()


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
async def test_no_error_shows_the_wandb_key(fake: FakeCohere, status: int, body: bytes) -> None:
    """The service may repeat what it was sent, in any form."""
    fake.script.says(body % WANDB_KEY.encode(), status=status)
    with pytest.raises(CfaiError) as caught:
        await client_of(fake, retries=NEVER).create("a", TRACKED)
    assert WANDB_KEY not in shown(caught.value)


async def test_an_empty_wandb_key_hides_nothing(fake: FakeCohere) -> None:
    """As the service omits it; an error stays readable."""
    settings = Settings(BaseModel("BASE_TYPE_CHAT"), "d", wandb=WandbConfig("p", ""))
    fake.refuses(400, "bad name")
    with pytest.raises(BadRequest) as caught:
        await client_of(fake).update("m", name="a", settings=settings)
    assert caught.value.message == "bad name"


@pytest.mark.parametrize(
    "message",
    [
        r"bad settings {\"api_key\": \"another-secret\", \"project\": \"p\"}",
        r"bad settings {\\\"api_key\\\": \\\"another-secret\\\"}",
        "api_key=another-secret is wrong",
        "api_key: 'another-secret'",
    ],
)
async def test_no_error_shows_a_key_inside_a_text(fake: FakeCohere, message: str) -> None:
    """Quoted again, or written by hand."""
    fake.script.says(b'{"message": "%s"}' % message.encode(), status=400)
    with pytest.raises(BadRequest) as caught:
        await client_of(fake).get("m")
    assert "another-secret" not in shown(caught.value)
    assert "api_key" in str(caught.value)


@pytest.mark.parametrize("key", [b'"another-secret"', b'["another-secret"]', b'"another-secret'])
@pytest.mark.parametrize("status", [200, 400])
async def test_no_error_shows_a_key_of_the_service(
    fake: FakeCohere, status: int, key: bytes
) -> None:
    """A key from an earlier call is a secret, too."""
    fake.script.says(
        b'{"finetuned_model":{"name":5,"settings":{"base_model":{},"wandb":{"api_key": %s}}},'
        b'"message":"no"}' % key,
        status=status,
    )
    with pytest.raises(CfaiError) as caught:
        await client_of(fake).get("m")
    assert "another-secret" not in shown(caught.value)


async def test_a_key_is_read_but_not_shown(fake: FakeCohere) -> None:
    """Its field has it; `raw` and `repr` do not."""
    cohere = client_of(fake)
    model = await cohere.create("a", TRACKED)
    assert model.settings.wandb is not None
    assert model.settings.wandb.api_key == WANDB_KEY
    assert WANDB_KEY not in repr(model) + repr(model.raw)


async def test_no_error_shows_the_api_key(fake: FakeCohere) -> None:
    """As for every client."""
    fake.refuses(401, "invalid api token: co-secret-key")
    cohere = client_of(fake, api_key="co-secret-key")
    with pytest.raises(AuthenticationError) as caught:
        await cohere.get("m")
    assert "co-secret-key" not in shown(caught.value) + repr(cohere) + repr(cohere._settings)
