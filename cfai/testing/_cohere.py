"""A Cohere for tests that keeps fine-tuned models in memory, and trains none of them."""

import base64
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote
from uuid import uuid4

from cfai.cohere import Cohere
from cfai.testing._fake import FakeWorkersAI
from cfai.testing._record import Recorded
from cfai.testing._script import Reply, one

_PATH = re.compile(r"/v1/finetuning/finetuned-models(?:/([^/]+)(?:/([a-z-]+))?)?")
_LISTS = {"events": "events", "training-step-metrics": "step_metrics"}
_DEFAULT_SIZE = 50

Json = dict[str, Any]


class _Refused(Exception):  # it is no error of the fake's
    """The request is answered with a status and a message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class FakeCohere:
    """Cohere's fine-tuning on the loopback: its seven endpoints, over real sockets.

    What is made is listed, in pages and in order, and leaves out what is empty or zero, as the
    service does. A model stays queued until `happens` says otherwise. What `script` says comes
    first, for answers that no service should give.

    ```python
    async with FakeCohere() as fake:
        cohere = fake.client()
        model = await cohere.create("rerank-ft", settings)
        fake.happens(model.id, "STATUS_READY")
        assert (await cohere.get(model)).status == "STATUS_READY"
    ```
    """

    def __init__(self) -> None:
        self.script: FakeWorkersAI = FakeWorkersAI()
        """Scripts replies, byte for byte, that are said before the endpoints are asked."""
        self.script.always.answers_by(self._answer)
        self.models: dict[str, Json] = {}
        """Every model by its id, as it is told."""
        self._lists: dict[tuple[str, str], list[Json]] = {}
        self._clients: list[Cohere] = []

    async def __aenter__(self) -> Self:
        await self.script.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while self._clients:
            await self._clients.pop().aclose()
        await self.script.__aexit__(kind, error, trace)

    @property
    def base_url(self) -> str:
        """What a client takes as its `base_url`."""
        return self.script.origin

    @property
    def requests(self) -> Sequence[Recorded]:
        """Every request that is in, in order; still growing."""
        return self.script.requests

    def client(self, **options: Any) -> Cohere:
        """A real client of this server, closed with it. It warns as every `Cohere` does.

        Args:
            options: Arguments of `Cohere`. Unless given: `api_key="fake-key"` and this server.
        """
        client = Cohere(**({"api_key": "fake-key", "base_url": self.base_url} | options))
        self._clients.append(client)
        return client

    def refuses(self, status: int, message: str) -> Self:
        """Answer the next request with a refusal in Cohere's form."""
        self.script.replies(_json({"message": message}, status))
        return self

    def adds(
        self, name: str, base_type: str = "BASE_TYPE_CHAT", dataset_id: str = "dataset"
    ) -> str:
        """Have a model without a request for it; gives its id."""
        settings = {"base_model": {"base_type": base_type}, "dataset_id": dataset_id}
        made: str = self._create({"name": name, "settings": settings})["finetuned_model"]["id"]
        return made

    def happens(self, model_id: str, status: str) -> None:
        """Give a model a new status, which is an event of it."""
        self.models[model_id]["status"] = status
        self._list(model_id, "events").append({"status": status, "created_at": _now()})

    def measures(self, model_id: str, **metrics: float) -> None:
        """Add the next step of a model's training, counted from 0."""
        steps = self._list(model_id, "step_metrics")
        said = {"created_at": _now(), "step_number": len(steps), "metrics": metrics}
        steps.append(_without_zeros(said))

    def _list(self, model_id: str, name: str) -> list[Json]:
        return self._lists.setdefault((model_id, name), [])

    # The endpoints...

    def _answer(self, request: Recorded) -> Reply:
        try:
            return _json(self._said(request))
        except _Refused as refused:
            return _json({"message": str(refused)}, refused.status)

    def _said(self, request: Recorded) -> Json:
        if not request.headers.get("Authorization", "").startswith("Bearer "):
            raise _Refused(401, "no api key supplied")
        found = _PATH.fullmatch(request.path)
        if found is None:
            raise _Refused(404, f"404 page not found: {request.path}")
        model_id, rest = found[1] and unquote(found[1]), found[2]
        if model_id is None and request.method == "POST":
            return self._create(_asked(request))
        if model_id is None and request.method == "GET":
            return _page("finetuned_models", list(self.models.values()), request.query)
        if model_id not in self.models:
            raise _Refused(404, f"finetuned model {model_id} not found")
        if rest in _LISTS and request.method == "GET":
            return self._history(model_id, _LISTS[rest], request.query)
        if rest is None:
            return self._one(model_id, request)
        raise _Refused(404, f"404 page not found: {request.path}")

    def _create(self, asked: Json) -> Json:
        now, model_id = _now(), str(uuid4())
        known = {"id": model_id, "creator_id": str(uuid4()), "organization_id": str(uuid4())}
        self.models[model_id] = {**asked, **known, "created_at": now, "updated_at": now}
        self.happens(model_id, "STATUS_QUEUED")
        return {"finetuned_model": self.models[model_id]}

    def _one(self, model_id: str, request: Recorded) -> Json:
        if request.method == "DELETE":
            del self.models[model_id]
            return {}
        if request.method == "PATCH":
            self.models[model_id] |= {**_asked(request), "updated_at": _now()}
        elif request.method != "GET":
            raise _Refused(405, "method not allowed")
        return {"finetuned_model": self.models[model_id]}

    def _history(self, model_id: str, name: str, query: dict[str, str]) -> Json:
        page = _page(name, self._list(model_id, name), query)
        # Of the three lists this one has no total.
        return {key: page[key] for key in page if (name, key) != ("step_metrics", "total_size")}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _without_zeros(said: Json) -> Json:
    return {key: value for key, value in said.items() if value not in (0, "", None)}


def _json(document: Json, status: int = 200) -> Reply:
    body = json.dumps(document).encode()
    return one(lambda script: script.says(body, status=status, content_type="application/json"))


def _asked(request: Recorded) -> Json:
    """The name and the settings of a body that has what is required."""
    try:
        body = request.json()
        settings = body["settings"]
        required = (body["name"], settings["dataset_id"], settings["base_model"]["base_type"])
    except (ValueError, KeyError, TypeError) as exc:
        raise _Refused(400, f"invalid request: {exc}") from exc
    if not all(isinstance(text, str) and text for text in required):
        raise _Refused(400, "name, settings.dataset_id and base_type must not be empty")
    return {"name": body["name"], "settings": settings}


def _page(key: str, rows: list[Json], query: dict[str, str]) -> Json:
    """The page that a query asks for; the token of the next one is its beginning."""
    # The last field first: sorting keeps what is equal as it was.
    order = query.get("order_by", "created_at")
    for part in reversed(order.split(",")):
        field, _, direction = part.partition(" ")
        if field not in ("created_at", "name") or direction not in ("", "desc"):
            raise _Refused(400, f"invalid order_by: {part}")
        rows = sorted(rows, key=lambda row: str(row.get(field, "")), reverse=bool(direction))
    try:
        size = int(query.get("page_size", 0)) or _DEFAULT_SIZE
        begin = int(base64.b64decode(query.get("page_token", ""), validate=True) or 0)
    except ValueError as exc:
        raise _Refused(400, "invalid page_size or page_token") from exc
    if size < 0 or begin < 0:
        raise _Refused(400, "invalid page_size or page_token")
    end = begin + size
    token = base64.b64encode(b"%d" % end).decode() if end < len(rows) else ""
    page = {"next_page_token": token, "total_size": len(rows)}
    return {key: rows[begin:end], **_without_zeros(page)}
