"""Batches: many runs submitted in one request, computed later, and polled for their results.

Source: Cloudflare docs, Workers AI, "Asynchronous Batch API".
"""

import asyncio
import logging
import sqlite3
from typing import Any
from uuid import uuid4

import orjson
from attrs import define, field

from cfai.local import errors
from cfai.local.errors import ApiError
from cfai.local.handlers import ModelRunner
from cfai.local.requests import (
    ApiRequest,
    JsonBody,
    check_names,
    missing_fields,
    parse_json_object,
)
from cfai.local.store import Store
from cfai.tasks.task import shorten

log: logging.Logger = logging.getLogger("cfai.local")

_SIZE_LIMIT = 10_000_000
"""In bytes: a body must be shorter."""

_USAGE = {
    "prompt_tokens": "prompt_tokens",
    "completion_tokens": "completion_tokens",
    "total_tokens": "total_tokens",
    "input_tokens": "prompt_tokens",
    "output_tokens": "completion_tokens",
}
"""The counts of a batch by the names in its results; the last two are those of Responses."""


@define
class BatchRunner:
    """Keeps batches in the store and runs them one after another, item by item.

    A batch that was not done when the server stopped starts again with the next server on the same
    folder.
    """

    store: Store
    runs: ModelRunner
    _wake: asyncio.Event = field(factory=asyncio.Event, init=False)
    _worker: "asyncio.Task[None] | None" = field(default=None, init=False)
    _running_id: str = field(default="", init=False)

    def start(self) -> None:
        """Start running batches."""
        self._worker = asyncio.create_task(self._work())

    async def close(self) -> None:
        """Cancel the running batch. Safe to repeat."""
        if self._worker:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)

    async def submit_or_poll(self, request: ApiRequest) -> dict[str, Any]:
        """`POST run/{model}?queueRequest=true`: submit a batch, or poll one by its id.

        Raises:
            ApiError: The body is neither, no local model can run it, or the batch is unknown.
        """
        model = self.runs.find_model(request.model or "").name
        raw = await request.read_body()
        if len(raw) >= _SIZE_LIMIT:
            raise errors.request_too_large(_SIZE_LIMIT - 1)
        body = parse_json_object(raw)
        if "request_id" in body:
            check_names(body, "request_id")
            return await self._poll(request.account, model, body["request_id"])
        batch_id = str(uuid4())
        requests = orjson.dumps(_read_requests(body))
        insert = "INSERT INTO batch (id, account, model, requests) VALUES (?, ?, ?, ?)"
        await self.store.execute(insert, batch_id, request.account, model, requests)
        self._wake.set()
        return _batch_status("queued", batch_id, model)

    async def _poll(self, account: str, model: str, batch_id: Any) -> dict[str, Any]:
        if not isinstance(batch_id, str):
            raise errors.bad_input(f"request_id must be text, got {shorten(batch_id)}")
        select = "SELECT done FROM batch WHERE id = ? AND account = ? AND model = ?"
        row = await self.store.execute(select, batch_id, account, model)
        if row is None:
            raise errors.unknown_batch(batch_id)
        if row["done"] is None:
            status = "running" if batch_id == self._running_id else "queued"
            return _batch_status(status, batch_id, model)
        responses: dict[str, Any] = orjson.loads(row["done"])
        return responses

    async def _work(self) -> None:
        oldest = "SELECT * FROM batch WHERE done IS NULL ORDER BY number LIMIT 1"
        while True:
            self._wake.clear()
            try:
                batch = await self.store.execute(oldest)
                if batch is not None:
                    await self._complete(batch)
                    continue
            except Exception:
                # For example, the disk is full. The next submitted batch triggers another try.
                log.exception("the local server failed to store a batch")
            await self._wake.wait()

    async def _complete(self, batch: sqlite3.Row) -> None:
        """Run a batch and store its responses."""
        self._running_id = batch["id"]
        responses, usage = [], dict.fromkeys(_USAGE.values(), 0)
        for number, body in enumerate(orjson.loads(batch["requests"])):
            response: dict[str, Any] = {"id": number}
            try:
                # A folder of another version may hold batches of models that this one lacks.
                model = self.runs.find_model(batch["model"])
                fields = {name: body[name] for name in body if name != "external_reference"}
                result = await self.runs.run_queued(batch["account"], model, fields)
                response |= {"result": result, "success": True}
                # Only text generations have a usage.
                for name in _USAGE if isinstance(result, dict) else ():
                    usage[_USAGE[name]] += result["usage"].get(name, 0)
            except ApiError as error:
                response |= {"success": False, "errors": error.body()["errors"]}
            except Exception as exc:
                log.exception("the local server failed to run a queued request")
                failure = errors.internal_error(exc).body()
                response |= {"success": False, "errors": failure["errors"]}
            responses.append({**response, "external_reference": body.get("external_reference")})
        done = orjson.dumps({"responses": responses, "usage": usage})
        # The requests are no longer needed and may be long.
        update = "UPDATE batch SET done = ?, requests = '' WHERE id = ?"
        await self.store.execute(update, done, batch["id"])


def _batch_status(status: str, batch_id: str, model: str) -> dict[str, Any]:
    return {"status": status, "request_id": batch_id, "model": model}


def _read_requests(body: JsonBody) -> list[JsonBody]:
    """Return the requests of a batch. Their fields are checked when they run."""
    check_names(body, "requests")
    requests = body.get("requests")
    if requests is None:
        raise missing_fields("requests")
    if not isinstance(requests, list) or not requests:
        raise errors.bad_input("requests must be a list of at least 1 object")
    for index, item in enumerate(requests):
        if not isinstance(item, dict):
            raise errors.bad_input(f"requests[{index}] must be an object, got {shorten(item)}")
        reference = item.get("external_reference")
        if reference is not None and not isinstance(reference, str):
            name = f"requests[{index}].external_reference"
            raise errors.bad_input(f"{name} must be text, got {shorten(reference)}")
    return requests
