"""Cohere's fine-tuning on the wire: seven requests, what their answers say, and what they hide.

Source: Cohere API, v1/finetuning, and the OpenAPI document behind it.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import attrs
from attrs import evolve

from cfai._types.json import structure
from cfai._wire.answers import read_document
from cfai._wire.bodies import json_content
from cfai._wire.pagination import Cursor, Facts, ListPage, PageToken
from cfai._wire.requests import Request, all_headers
from cfai._wire.responses import Reply
from cfai.cohere.models import BaseType, Event, FinetunedModel, Settings, TrainingStepMetrics
from cfai.errors import ConfigError, DecodeError, InputError, StatusError
from cfai.settings import Options, Settings as ClientSettings

R = TypeVar("R")
T = TypeVar("T")

MODELS: Final = "/v1/finetuning/finetuned-models"

_FIELD: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_.]*)(?: +desc)?")
_READ_ONLY: Final = frozenset({"version", "multi_label"})
_HIDDEN: Final = "***"

# Protocol Buffers, "JSON Mapping": what JSON has no number for.
_NO_NUMBERS: Final = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


# Requests...


def check_gateway(settings: ClientSettings) -> None:
    """Refuse to tell Cohere what is meant for a gateway, such as the token of one.

    Raises:
        ConfigError: There is a gateway, and the address is Cohere's own.
    """
    host = urlsplit(settings.base_url).hostname or ""
    if settings.gateway is not None and host.endswith((".cohere.com", ".cohere.ai")):
        raise ConfigError("gateway needs the base_url of an AI Gateway, and this one is Cohere's")


def order(given: Any) -> str | None:
    """Check an order, and put it in its form: `created_at desc,name`.

    Raises:
        InputError: It names no field, one twice, or something else than fields.
    """
    if given is None:
        return None
    if not isinstance(given, Iterable):
        raise InputError(f"order_by must be a text or several, got {given!r:.60}")
    parts = given.split(",") if isinstance(given, str) else list(given)
    fields = []
    for part in parts:
        found = _FIELD.fullmatch(part.strip()) if isinstance(part, str) else None
        if found is None:
            raise InputError(f'order_by must be made of "field" or "field desc", got {part!r:.60}')
        fields.append(found[1])
    if not fields or len(set(fields)) < len(fields):
        raise InputError(f"order_by must name fields, and none twice, got {given!r:.100}")
    return ",".join(" ".join(part.split()) for part in parts)


def start(page_size: int | None, order_by: str | Iterable[str] | None = None) -> PageToken:
    """The first page of a list.

    Raises:
        InputError: The size or the order is none.
    """
    if page_size is not None and (type(page_size) is not int or not 0 <= page_size < 2**31):
        raise InputError(
            f"page_size must be a whole number, from 0 to 2147483647, got {page_size!r:.60}"
        )
    return PageToken(size=page_size, order_by=order(order_by))


def model_path(model: FinetunedModel | str, rest: str = "") -> str:
    """The path of a fine-tuned model, whose id may hold anything.

    Raises:
        InputError: There is no id, or one that no path can hold.
    """
    known = model.id if isinstance(model, FinetunedModel) else model
    if not isinstance(known, str) or known in ("", ".", ".."):
        raise InputError(f"id must be a text other than . and .. and not empty, got {known!r:.100}")
    try:
        return f"{MODELS}/{quote(known, safe='')}{rest}"
    except UnicodeEncodeError as exc:
        raise InputError(f"id must be text, got {known!r:.100}") from exc


def _headers(settings: ClientSettings, options: Options | None, **own: str) -> Mapping[str, str]:
    headers = all_headers(settings, options, own)
    # The address of a gateway names it already.
    return {name: value for name, value in headers.items() if name != "cf-aig-gateway-id"}


def bare(
    settings: ClientSettings, options: Options | None, *, path: str, method: str = "GET"
) -> Request:
    """A request without a body: what gets one model, or deletes it."""
    return Request(method, path, _headers(settings, options))


def page(
    settings: ClientSettings, options: Options | None, *, path: str, cursor: Cursor
) -> Request:
    """What asks for one page of a list."""
    # A comma may stand in a query as it is (RFC 3986, section 3.4), and is documented so.
    query = urlencode(cursor.query(), safe=",")
    return bare(settings, options, path=f"{path}?{query}" if query else path)


def _named(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise InputError(f"{name} must be a text with something in it, got {value!r:.60}")
    return value


def _sent(value: Any) -> Any:
    """A value as JSON, without what was left out and what only the service says.

    A key that the service did not tell is left out, too: as an empty one, it would replace it.
    """
    if not attrs.has(type(value)):
        return value
    given = {one.name: getattr(value, one.name) for one in attrs.fields(type(value))}
    return {
        name: _sent(one)
        for name, one in given.items()
        if one is not None and name not in _READ_ONLY and (name != "api_key" or one)
    }


def written(
    settings: ClientSettings,
    options: Options | None,
    *,
    name: str,
    trained: Settings,
    path: str = MODELS,
    method: str = "POST",
) -> Request:
    """What makes a model (`POST`) or changes it (`PATCH`); made twice, there would be two.

    Raises:
        InputError: What is required is empty.
    """
    if not isinstance(trained, Settings):
        raise InputError(f"settings must be cohere.Settings, got {type(trained).__name__}")
    _named("dataset_id", trained.dataset_id)
    _named("base_type", getattr(trained.base_model, "base_type", None))
    body = json_content({"name": _named("name", name), "settings": _sent(trained)})
    headers = _headers(settings, options, **{"Content-Type": "application/json"})
    return Request(method, path, headers, body, repeatable=method != "POST")


def secrets(trained: object) -> tuple[str, ...]:
    """What a request carries in its body that no error may show."""
    wandb = getattr(trained, "wandb", None)
    key = getattr(wandb, "api_key", None)
    return (key,) if isinstance(key, str) and key else ()


# Answers...


def _without_keys(value: Any) -> Any:
    """A decoded body with every `api_key` hidden."""
    if isinstance(value, Mapping):
        return {
            name: _HIDDEN if name == "api_key" else _without_keys(one)
            for name, one in value.items()
        }
    return [_without_keys(one) for one in value] if isinstance(value, list | tuple) else value


def heard(reply: Reply, read: Callable[[Any], T]) -> T:
    """What *read* makes of the decoded body of a reply.

    Raises:
        StatusError: The service said no.
        DecodeError: It said something that no source documents.
    """
    try:
        return read_document(reply, read)
    except StatusError as exc:
        exc.from_elsewhere()
        raise


def deleted(reply: Reply) -> None:
    """Nothing, since a deletion answers `{}`; a body that is empty means no other thing."""
    if reply.body or not 200 <= reply.status < 300:
        heard(reply, lambda _: None)


def _present(value: Any) -> Any:
    """JSON without its nulls, which mean what is left out means."""
    if isinstance(value, Mapping):
        return {name: _present(one) for name, one in value.items() if one is not None}
    return value


def _filled(said: Any, key: str, **zeros: str) -> dict[str, Any]:
    """An object inside *said*, with the empty texts that the service leaves out."""
    if not isinstance(said.get(key), Mapping):
        return {}
    return {key: {**zeros, **said[key]}}


def _model(row: Any, where: str) -> FinetunedModel:
    said = _present(row)
    if isinstance(said, Mapping) and isinstance(said.get("settings"), Mapping):
        trained = said["settings"]
        wandb = _filled(trained, "wandb", project="", api_key="")
        if wandb and not isinstance(wandb["wandb"]["api_key"], str):
            # The message about it would show it.
            raise DecodeError(f"{where}.settings.wandb.api_key is documented as a text")
        base = _filled(trained, "base_model", base_type=BaseType.UNSPECIFIED.value)
        said = {"name": "", **said, "settings": {"dataset_id": "", **trained, **base, **wandb}}
    return evolve(structure(said, FinetunedModel, where), raw=_without_keys(row))


def _event(row: Any, where: str) -> Event:
    return evolve(structure(_present(row), Event, where), raw=row)


def _metrics(row: Any, where: str) -> TrainingStepMetrics:
    said = _present(row)
    if isinstance(said, Mapping) and isinstance(said.get("metrics"), Mapping):
        metrics = said["metrics"].items()
        said = {**said, "metrics": {name: _number(one) for name, one in metrics}}
    return evolve(structure(said, TrainingStepMetrics, where), raw=row)


def _number(value: Any) -> Any:
    return _NO_NUMBERS.get(value, value) if isinstance(value, str) else value


def one(document: Any) -> FinetunedModel:
    """The model of an answer that is about one."""
    said = document.get("finetuned_model") if isinstance(document, Mapping) else None
    if not isinstance(said, Mapping):
        raise DecodeError("a finetuned_model is documented, and there is none")
    return _model(said, "finetuned_model")


def _rows(key: str, read: Callable[[Any, str], R]) -> Callable[[Any], ListPage[R]]:
    """What reads a page, whose rows are under *key*; an empty one may say nothing at all."""

    def made(document: Any) -> ListPage[R]:
        known = {key, "next_page_token", "total_size"}
        if not isinstance(document, Mapping) or (document and not known & document.keys()):
            raise DecodeError(f"a page of {key} is documented")
        said, token = document.get(key), document.get("next_page_token")
        said = [] if said is None else said
        if not isinstance(said, list) or not isinstance(token, str | None):
            raise DecodeError(f"{key} is documented as a list, and next_page_token as a text")
        rows = [read(row, f"{key}[{at}]") for at, row in enumerate(said)]
        return ListPage(rows, said, Facts(count=len(said), token=token or None))

    return made


models: Final = _rows("finetuned_models", _model)
events: Final = _rows("events", _event)
step_metrics: Final = _rows("step_metrics", _metrics)
