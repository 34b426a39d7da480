"""The queue: batches of runs that are handed over in one request, and computed afterwards.

Source: Cloudflare docs, Workers AI, "Asynchronous Batch API".
"""

import asyncio
import logging
import sqlite3
from typing import Any
from uuid import uuid4

import orjson
from attrs import define, field, frozen

from cfai.local import faults
from cfai.local.checks import Body, decoded, missing
from cfai.local.faults import Fault, bad_input
from cfai.local.places import Visit
from cfai.local.runs import Runs, runnable
from cfai.local.store import Store

log: logging.Logger = logging.getLogger("cfai.local")

_TOO_LONG = 10_000_000
"""In bytes: a body must be shorter."""


@frozen
class _Batch:
    """A batch that is not done."""

    id: str
    account: str
    model: str
    requests: list[Body]


@define
class Queue:
    """Keeps batches in the store, and runs the oldest first, an item whenever a model is free.

    What was not done when the server stopped begins anew with the next one on the same folder.
    """

    store: Store
    runs: Runs
    _wake: asyncio.Event = field(factory=asyncio.Event, init=False)
    _worker: "asyncio.Task[None] | None" = field(default=None, init=False)
    _running: str = field(default="", init=False)

    def start(self) -> None:
        """Begin to work."""
        self._worker = asyncio.create_task(self._work())

    async def close(self) -> None:
        """Break off what is under way. Safe to repeat."""
        worker, self._worker = self._worker, None
        if worker:
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)

    async def answer(self, visit: Visit) -> dict[str, Any]:
        """`POST run/{model}?queueRequest=true`: take a batch, or tell what became of one.

        Raises:
            Fault: The body is neither, nobody can run the model, or no batch has that id.
        """
        model = runnable(visit.model or "").name
        raw = await visit.read()
        if len(raw) >= _TOO_LONG:
            raise faults.too_large(_TOO_LONG - 1)
        body = decoded(raw)
        if "request_id" in body:
            return await self._told(visit.account, model, body["request_id"])
        batch = _Batch(str(uuid4()), visit.account, model, _requests(body))
        await self.store.ask(lambda db: _insert(db, batch))
        self._wake.set()
        return _waiting("queued", batch.id, model)

    async def _told(self, account: str, model: str, known: Any) -> dict[str, Any]:
        if not isinstance(known, str):
            raise bad_input(f"request_id must be text, got {known!r:.60}")
        select = "SELECT done FROM batch WHERE id = ? AND account = ? AND model = ?"
        row = await self.store.ask(
            lambda db: db.execute(select, (known, account, model)).fetchone()
        )
        if row is None:
            raise faults.no_such_batch(known)
        if row["done"] is None:
            return _waiting("running" if known == self._running else "queued", known, model)
        done: dict[str, Any] = orjson.loads(row["done"])
        return done

    async def _work(self) -> None:
        while True:
            self._wake.clear()
            try:
                batch = await self.store.ask(_oldest)
                if batch is not None:
                    await self._finish(batch)
                    continue
            except Exception:
                # A full disk, for one: the next batch is the next occasion.
                log.exception("the local Workers AI can't keep its batches")
            await self._wake.wait()

    async def _finish(self, batch: _Batch) -> None:
        self._running = batch.id
        done = await self._run(batch)
        await self.store.ask(lambda db: _finish(db, batch, done))

    async def _run(self, batch: _Batch) -> bytes:
        responses, usage = [], dict.fromkeys(_USAGE, 0)
        for number, body in enumerate(batch.requests):
            said: dict[str, Any] = {"id": number}
            try:
                # A folder of another version may hold batches of models that this one lacks.
                model = runnable(batch.model)
                result = await self.runs.later(batch.account, model, body)
                said |= {"result": result, "success": True}
                _add(usage, result)
            except Fault as fault:
                said |= {"success": False, "errors": fault.body()["errors"]}
            except Exception as exc:
                log.exception("the local Workers AI failed")
                said |= {"success": False, "errors": faults.broken(exc).body()["errors"]}
            responses.append({**said, "external_reference": body.get("external_reference")})
        return orjson.dumps({"responses": responses, "usage": usage})


_USAGE = ("prompt_tokens", "completion_tokens", "total_tokens")


def _add(usage: dict[str, int], result: Any) -> None:
    """Add what a text took; the others have no usage."""
    if isinstance(result, dict):
        for name in _USAGE:
            usage[name] += result["usage"][name]


def _waiting(status: str, batch: str, model: str) -> dict[str, Any]:
    return {"status": status, "request_id": batch, "model": model}


def _requests(body: Body) -> list[Body]:
    """Give the items of a batch. What is in them is checked when they run."""
    items = body.get("requests")
    if items is None:
        raise missing("requests")
    if not isinstance(items, list) or not items:
        raise bad_input("requests must be a list of at least 1 object")
    for at, item in enumerate(items):
        if not isinstance(item, dict):
            raise bad_input(f"requests[{at}] must be an object, got {item!r:.60}")
        reference = item.get("external_reference")
        if reference is not None and not isinstance(reference, str):
            where = f"requests[{at}].external_reference"
            raise bad_input(f"{where} must be text, got {reference!r:.60}")
    return items


# In the store's thread...


def _insert(db: sqlite3.Connection, batch: _Batch) -> None:
    values = (batch.id, batch.account, batch.model, orjson.dumps(batch.requests))
    db.execute("INSERT INTO batch (id, account, model, requests) VALUES (?, ?, ?, ?)", values)


def _oldest(db: sqlite3.Connection) -> _Batch | None:
    select = "SELECT * FROM batch WHERE done IS NULL ORDER BY number LIMIT 1"
    row = db.execute(select).fetchone()
    if row is None:
        return None
    return _Batch(row["id"], row["account"], row["model"], orjson.loads(row["requests"]))


def _finish(db: sqlite3.Connection, batch: _Batch, done: bytes) -> None:
    # The requests are not needed any more, and may be long.
    db.execute("UPDATE batch SET done = ?, requests = '' WHERE id = ?", (done, batch.id))
