"""Fine-tunes: listed, made, and looked up by what runs with `lora`. Nothing here applies one."""

import sqlite3
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from attrs import frozen

from cfai.local import adapters, faults
from cfai.local.checks import Body, missing
from cfai.local.faults import against_rule
from cfai.local.models import look_up
from cfai.local.places import Visit
from cfai.local.store import Store

MOST = 30
"""How many an account may have. Source: Cloudflare docs, Workers AI, "Using LoRA adapters"."""

_COLUMNS = ("id", "created_at", "model", "modified_at", "name", "public", "description")
_PAGE = 50


def now() -> str:
    """Give the time as the API writes it: UTC, with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@frozen
class Finetunes:
    """The fine-tunes of all accounts that this server was asked about."""

    store: Store

    async def own(self, visit: Visit) -> list[dict[str, Any]]:
        """`GET finetunes`: those of the account, the oldest first, and not whether one is public.

        The API documents one object here; its own clients read a list.
        """

        def work(db: sqlite3.Connection) -> list[dict[str, Any]]:
            query = "SELECT * FROM finetune WHERE account = ? ORDER BY number"
            return [_row(row) for row in db.execute(query, (visit.account,))]

        rows = await self.store.ask(work)
        return [{name: row[name] for name in row if name != "public"} for row in rows]

    async def public(self, visit: Visit) -> list[dict[str, Any]]:
        """`GET finetunes/public?limit=&offset=&orderBy=`: those of every account.

        Raises:
            Fault: A number is none, or there is no such column.
        """
        limit, offset = visit.whole("limit", _PAGE, least=1), visit.whole("offset", 0)
        order = visit.request.query.get("orderBy", "created_at")
        if order not in _COLUMNS:
            raise against_rule(f"orderBy must be one of {', '.join(_COLUMNS)}, got {order[:60]!r}")
        # The order's name is one of ours, and rows of the same value stay in the order they came.
        select = f"SELECT * FROM finetune WHERE public ORDER BY {order}, number LIMIT ? OFFSET ?"  # noqa: S608
        return await self.store.ask(
            lambda db: [_row(row) for row in db.execute(select, (limit, offset))]
        )

    async def create(self, visit: Visit) -> dict[str, Any]:
        """`POST finetunes`.

        Raises:
            Fault: A field breaks its rule, the name is taken, or the account has as many as it may.
        """
        made = _asked(await visit.body())

        def work(db: sqlite3.Connection) -> None:
            count = db.execute("SELECT count(*) FROM finetune WHERE account = ?", (visit.account,))
            if count.fetchone()[0] >= MOST:
                raise against_rule(f"an account has at most {MOST} finetunes")
            if _find(db, visit.account, made["name"]):
                raise against_rule(f"there is a finetune {made['name'][:60]!r} already")
            db.execute(
                "INSERT INTO finetune (id, account, name, model, description, public, created_at,"
                " modified_at) VALUES (:id, :account, :name, :model, :description, :public,"
                " :created_at, :modified_at)",
                {"description": None, **made, "account": visit.account},
            )

        await self.store.ask(work)
        return made

    async def check_lora(self, account: str, named: str) -> None:
        """See that a fine-tune is there for *account*, by its id or name, with both of its files.

        Raises:
            Fault: 3037, there is none; or 3039, a file is missing.
        """

        def work(db: sqlite3.Connection) -> tuple[bool, int]:
            row = _find(db, account, named) or _find_public(db, named)
            if row is None:
                return False, 0
            count = db.execute("SELECT count(*) FROM asset WHERE finetune = ?", (row["id"],))
            return True, count.fetchone()[0]

        there, files = await self.store.ask(work)
        if not there:
            raise faults.no_such_finetune(named)
        if files < len((adapters.CONFIG, adapters.WEIGHTS)):
            raise faults.finetune_without_files(named)

    async def find(self, account: str, named: str, file_name: str = "") -> str:
        """Give the id of the fine-tune of *account* with this id or name.

        Raises:
            Fault: There is none; or it has a file *file_name* already.
        """
        return await self.store.ask(lambda db: open_for(db, account, named, file_name))


def open_for(db: sqlite3.Connection, account: str, named: str, file_name: str) -> str:
    """Give the id of a fine-tune that lacks the file *file_name*.

    Raises:
        Fault: There is no such fine-tune, or it has that file.
    """
    row = _find(db, account, named)
    if row is None:
        raise faults.unknown_finetune(named)
    select = "SELECT 1 FROM asset WHERE finetune = ? AND file_name = ?"
    if db.execute(select, (row["id"], file_name)).fetchone():
        raise against_rule(f"{file_name} is there already, and no file can be replaced")
    return str(row["id"])


def _find(db: sqlite3.Connection, account: str, named: str) -> sqlite3.Row | None:
    """Look for an id first, then for a name."""
    select = (
        "SELECT * FROM finetune WHERE account = ? AND (id = ? OR name = ?) ORDER BY id = ? DESC"
    )
    row: sqlite3.Row | None = db.execute(select, (account, named, named, named)).fetchone()
    return row


def _find_public(db: sqlite3.Connection, named: str) -> sqlite3.Row | None:
    """Look for a public one: by name the first that has it, since accounts share no names."""
    select = (
        "SELECT * FROM finetune WHERE public AND (id = ? OR name = ?) ORDER BY id = ? DESC, number"
    )
    row: sqlite3.Row | None = db.execute(select, (named, named, named)).fetchone()
    return row


def _row(row: sqlite3.Row) -> dict[str, Any]:
    """Say what the service says of one: no description where it has none."""
    said = {name: row[name] for name in _COLUMNS}
    said["public"] = bool(said["public"])
    if said["description"] is None:
        del said["description"]
    return said


def _asked(body: Body) -> dict[str, Any]:
    """Give the row of the fine-tune that *body* asks for."""
    absent = [name for name in ("model", "name") if body.get(name) is None]
    if absent:
        raise missing(*absent)
    for name, kind in {"model": str, "name": str, "description": str, "public": bool}.items():
        value = body.get(name)
        if value is not None and (type(value) is not kind or (value == "" and name in _REQUIRED)):
            wanted = "true or false" if kind is bool else "text"
            raise against_rule(f"{name} must be {wanted}, got {value!r:.60}")
    known = look_up(body["model"])
    if known is None or known.task != "Text Generation":
        raise faults.no_such_model(body["model"])
    at = now()
    made = {
        "id": str(uuid4()),
        "created_at": at,
        "model": body["model"],
        "modified_at": at,
        "name": body["name"],
        "public": body.get("public") is True,
    }
    described = body.get("description")
    return made if described is None else {**made, "description": described}


_REQUIRED = ("model", "name")
