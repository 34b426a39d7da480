"""What the service answers beside runs: the documents, and the rows of a list."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

from attrs import frozen

from cfai._wire.errors import described, failure, refusal
from cfai._wire.pagination import Cursor, Facts
from cfai._wire.requests import Request, account_path, all_headers
from cfai._wire.responses import Reply, unwrapped
from cfai.errors import DecodeError
from cfai.settings import Options, Settings

R = TypeVar("R")
T = TypeVar("T")


@frozen
class Rows(Generic[R]):
    """One page of a list: its rows, as values and as the service said them."""

    rows: Sequence[R]
    said: Sequence[Any]
    facts: Facts


def get(
    settings: Settings,
    options: Options | None,
    path: str,
    query: Mapping[str, str],
) -> Request:
    """`GET /accounts/{account_id}/ai/…`, with a query where there is one."""
    path = account_path(settings, path)
    return Request(
        method="GET",
        path=f"{path}?{urlencode(query)}" if query else path,
        headers=all_headers(settings, options, {}),
    )


def listed(
    path: str, cursor: Cursor, query: Mapping[str, str]
) -> Callable[[Settings, Options | None], Request]:
    """What asks for the page of a list that *cursor* names."""
    return lambda settings, options: get(settings, options, path, {**query, **cursor.query()})


def told(
    reply: Reply,
    read: Callable[[Any], T],
    *,
    decode: Callable[[Reply], Any] = Reply.json,
) -> T:
    """What *read* makes of the body of a reply, decoded by *decode*.

    Raises:
        StatusError: The service said no, by its status or by `success: false`.
        DecodeError: It said something that no source documents.
    """
    try:
        now = datetime.now(UTC)
        if not 200 <= reply.status < 300:
            raise failure(reply, now=now)
        document = decode(reply)
        if error := refusal(document, reply, now=now):
            raise error
        return read(document)
    except DecodeError as exc:
        described(exc, reply.body, reply.meta)
        raise


def _flat(result: Any) -> Iterator[Any]:
    if isinstance(result, list):
        for item in result:
            yield from _flat(item)
    elif result is not None:
        yield result


def rows(read: Callable[[Any, str], R]) -> Callable[[Any], Rows[R]]:
    """What reads the body of a list, whose result is a list, a nested list, or one row alone.

    The API's schema has one object where its own clients read a list and its manual shows a list in
    a list, so each is taken for what it is.

    Args:
        read: Makes a row of its JSON; its second argument names it in errors.
    """

    def page(document: Any) -> Rows[R]:
        result = unwrapped(document)
        if not isinstance(result, list | Mapping | None):
            raise DecodeError(f"a list is documented, got {type(result).__name__}")
        said = [] if result == {} else list(_flat(result))
        made = [read(row, f"result[{at}]") for at, row in enumerate(said)]
        return Rows(made, said, Facts(count=len(said), total=_total(document)))

    return page


def _total(document: Any) -> int | None:
    info = document.get("result_info") if isinstance(document, Mapping) else None
    total = info.get("total_count") if isinstance(info, Mapping) else None
    return total if type(total) is int else None
