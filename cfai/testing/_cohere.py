"""`FakeCohere`: Cohere's fine-tuning API for tests. It keeps models in memory and trains none."""

import base64
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Self
from urllib.parse import unquote
from uuid import uuid4

from attrs import define

from cfai.cohere import Cohere
from cfai.testing._fake import FakeWorkersAI
from cfai.testing._recorded import Recorded
from cfai.testing._script import Reply, Script, take_reply

_PATH = re.compile(r"/v1/finetuning/finetuned-models(?:/([^/]+)(?:/([a-z-]+))?)?")
_LISTS = {"events": "events", "training-step-metrics": "step_metrics"}
_DEFAULT_SIZE = 50

Json = dict[str, Any]


@define
class _ErrorReply(Exception):  # a response, not an error of the fake
    """The request is answered with a status and a message."""

    status: int
    message: str


class FakeCohere:
    """Cohere's fine-tuning API on the loopback: its seven endpoints, over real sockets.

    Created models are listed in order and in pages; empty and zero fields are omitted, as the
    service does. A model stays queued until `happens` changes its status. Replies scripted on
    `script` take precedence, for responses that the service should never send.

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
        """Scripts literal replies, which are sent before the endpoints are used."""
        self.script.always.answers_by(self._answer)
        self.models: dict[str, Json] = {}
        """Every model by its id, as it is sent to clients."""
        self._lists: defaultdict[tuple[str, str], list[Json]] = defaultdict(list)
        self._clients: list[Cohere] = []

    async def __aenter__(self) -> Self:
        await self.script.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        while self._clients:
            await self._clients.pop().aclose()
        await self.script.__aexit__(*exc_info)

    @property
    def base_url(self) -> str:
        """The `base_url` for a client."""
        return self.script.origin

    @property
    def requests(self) -> Sequence[Recorded]:
        """Every request received so far, in order. The sequence grows."""
        return self.script.requests

    def client(self, **options: Any) -> Cohere:
        """Create a real client of this server. The fake closes it. It warns as every `Cohere` does.

        Args:
            options: Arguments of `Cohere`. Defaults: `api_key="fake-key"` and this server.
        """
        client = Cohere(**({"api_key": "fake-key", "base_url": self.base_url} | options))
        self._clients.append(client)
        return client

    def refuses(self, status: int, message: str) -> Self:
        """Answer the next request with an error in Cohere's format."""
        self.script.replies(_json_reply({"message": message}, status))
        return self

    def adds(
        self, name: str, base_type: str = "BASE_TYPE_CHAT", dataset_id: str = "dataset"
    ) -> str:
        """Add a model without a request and return its id."""
        settings = {"base_model": {"base_type": base_type}, "dataset_id": dataset_id}
        model_id: str = self._create({"name": name, "settings": settings})["finetuned_model"]["id"]
        return model_id

    def happens(self, model_id: str, status: str) -> None:
        """Change a model's status and add the event for it."""
        self.models[model_id]["status"] = status
        self._lists[model_id, "events"].append({"status": status, "created_at": _now()})

    def measures(self, model_id: str, **metrics: float) -> None:
        """Add the metrics of a model's next training step, counted from 0."""
        steps = self._lists[model_id, "step_metrics"]
        step = {"created_at": _now(), "step_number": len(steps), "metrics": metrics}
        steps.append(_without_zeros(step))

    # Endpoints

    def _answer(self, request: Recorded) -> Reply:
        try:
            return _json_reply(self._dispatch(request))
        except _ErrorReply as reply:
            return _json_reply({"message": reply.message}, reply.status)

    def _dispatch(self, request: Recorded) -> Json:
        if not request.headers.get("Authorization", "").startswith("Bearer "):
            raise _ErrorReply(401, "no api key supplied")
        match = _PATH.fullmatch(request.path)
        if match is None:
            raise _ErrorReply(404, f"404 page not found: {request.path}")
        model_id, rest = match[1] and unquote(match[1]), match[2]
        if model_id is None and request.method == "POST":
            return self._create(_read_settings(request))
        if model_id is None and request.method == "GET":
            return _build_page("finetuned_models", list(self.models.values()), request.query)
        if model_id not in self.models:
            raise _ErrorReply(404, f"finetuned model {model_id} not found")
        if rest in _LISTS and request.method == "GET":
            page = _build_page(_LISTS[rest], self._lists[model_id, _LISTS[rest]], request.query)
            if rest == "training-step-metrics":
                # This is the only list of the API without a total.
                page.pop("total_size", None)
            return page
        if rest is None:
            return self._change(model_id, request)
        raise _ErrorReply(404, f"404 page not found: {request.path}")

    def _create(self, settings: Json) -> Json:
        now, model_id = _now(), str(uuid4())
        ids = {"id": model_id, "creator_id": str(uuid4()), "organization_id": str(uuid4())}
        self.models[model_id] = {**settings, **ids, "created_at": now, "updated_at": now}
        self.happens(model_id, "STATUS_QUEUED")
        return {"finetuned_model": self.models[model_id]}

    def _change(self, model_id: str, request: Recorded) -> Json:
        """Get, update or delete one model."""
        if request.method == "DELETE":
            del self.models[model_id]
            return {}
        if request.method == "PATCH":
            self.models[model_id] |= {**_read_settings(request), "updated_at": _now()}
        elif request.method != "GET":
            raise _ErrorReply(405, "method not allowed")
        return {"finetuned_model": self.models[model_id]}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _without_zeros(document: Json) -> Json:
    return {key: value for key, value in document.items() if value not in (0, "", None)}


def _json_reply(document: Json, status: int = 200) -> Reply:
    body = json.dumps(document).encode()
    return take_reply(Script().says(body, status=status, content_type="application/json"))


def _read_settings(request: Recorded) -> Json:
    """Read the name and the settings from a body, and check the required fields."""
    try:
        body = request.json()
        settings = body["settings"]
        required = (body["name"], settings["dataset_id"], settings["base_model"]["base_type"])
    except (ValueError, KeyError, TypeError) as exc:
        raise _ErrorReply(400, f"invalid request: {exc}") from exc
    if not all(isinstance(text, str) and text for text in required):
        raise _ErrorReply(400, "name, settings.dataset_id and base_type must not be empty")
    return {"name": body["name"], "settings": settings}


def _build_page(key: str, rows: list[Json], query: dict[str, str]) -> Json:
    """Return the page that a query selects. A page token is the offset of its first row."""
    # Sorting is stable: sort by the last field first.
    order = query.get("order_by", "created_at")
    for part in reversed(order.split(",")):
        field, _, direction = part.partition(" ")
        if field not in ("created_at", "name") or direction not in ("", "desc"):
            raise _ErrorReply(400, f"invalid order_by: {part}")
        rows = sorted(rows, key=lambda row: str(row.get(field, "")), reverse=bool(direction))
    try:
        size = int(query.get("page_size", 0)) or _DEFAULT_SIZE
        start = int(base64.b64decode(query.get("page_token", ""), validate=True) or 0)
    except ValueError as exc:
        raise _ErrorReply(400, "invalid page_size or page_token") from exc
    if size < 0 or start < 0:
        raise _ErrorReply(400, "invalid page_size or page_token")
    end = start + size
    token = base64.b64encode(b"%d" % end).decode() if end < len(rows) else ""
    page = {"next_page_token": token, "total_size": len(rows)}
    return {key: rows[start:end], **_without_zeros(page)}
