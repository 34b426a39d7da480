"""The catalogue: the models that a run may name, searched page by page, with tasks and authors.

Source of the rows' form: github.com/cloudflare/workerd, `AiModelsSearchObject`.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from cfai.local import faults, schemas
from cfai.local.answers import ANSWERS
from cfai.local.models import look_up
from cfai.local.places import Visit
from cfai.profiles import TASKS

Row = dict[str, Any]

_PAGE = 50

_SOURCES = {"@cf": 1, "@hf": 2}
"""The numbers that the service has for where a model comes from."""

_FLAGS = ("hide_experimental", "include_deprecated")


async def search(visit: Visit) -> list[Row]:
    """`GET models/search`: by name. Nothing here is experimental or deprecated.

    Raises:
        Fault: A filter is not what its name says, or the rows are wanted in another form.
    """
    query = visit.request.query
    if "format" in query:
        raise faults.not_here("models are listed in the service's own form alone")
    for name in _FLAGS:
        if query.get(name, "true") not in ("true", "false"):
            raise faults.against_rule(f"{name} must be true or false, got {query[name][:60]!r}")
    page, size = visit.whole("page", 1, least=1), visit.whole("per_page", _PAGE, least=1)
    wanted = _wanted(visit)
    rows = [row for row in models() if all(fits(row) for fits in wanted)]
    return rows[(page - 1) * size : page * size]


async def schema(visit: Visit) -> Row:
    """`GET models/schema?model=`: what a model takes and answers, as JSON schemas.

    Raises:
        Fault: There is no such model.
    """
    name = visit.request.query.get("model", "")
    known = look_up(name)
    if known is None:
        raise faults.no_such_model(name)
    # One that has another input than its task, such as a reranker.
    task = known.task if known.task in ANSWERS else TASKS[name]
    return schemas.of(task)


async def tasks(visit: Visit) -> list[Row]:
    """`GET tasks/search`: every task that a model is made for."""
    return [_task(name) for name in sorted(set(TASKS.values()))]


async def authors(visit: Visit) -> list[Row]:
    """`GET authors/search`: whoever stands in a model's name. The API says "object" and no more."""
    return [{"name": name} for name in sorted({_author(model) for model in TASKS})]


@lru_cache(maxsize=1)
def models() -> tuple[Row, ...]:
    """Give a row for each model, in the order of their names."""
    return tuple(_row(name) for name in sorted(TASKS))


def _wanted(visit: Visit) -> list[Callable[[Row], bool]]:
    """Give what a row must fit for what the query asks."""
    query = visit.request.query
    found: list[Callable[[Row], bool]] = []
    if "search" in query:
        words = query["search"].casefold().split()
        found.append(lambda row: all(word in _searched(row) for word in words))
    if "task" in query:
        found.append(lambda row: row["task"]["name"].casefold() == query["task"].casefold())
    if "author" in query:
        found.append(lambda row: _author(row["name"]).casefold() == query["author"].casefold())
    if "source" in query:
        source = visit.whole("source", 0)
        found.append(lambda row: row["source"] == source)
    return found


def _searched(row: Row) -> str:
    return f"{row['name']} {row['description']}".casefold()


def _row(name: str) -> Row:
    return {
        "id": _id(f"model/{name}"),
        "source": _SOURCES[name.partition("/")[0]],
        "name": name,
        "description": f"{TASKS[name]} by {_author(name)}",
        "task": _task(TASKS[name]),
        "tags": [],
        "properties": _properties(name),
    }


def _properties(name: str) -> list[Row]:
    """Give what the name says by itself. The service's windows and prices are not those here."""
    return [{"property_id": "lora", "value": "true"}] if name.endswith("-lora") else []


def _task(name: str) -> Row:
    return {"id": _id(f"task/{name}"), "name": name, "description": ""}


def _author(model: str) -> str:
    return model.split("/")[1]


def _id(name: str) -> str:
    """Give an id that stays the same; it is not the service's."""
    return str(uuid5(NAMESPACE_URL, f"cfai:local/{name}"))
