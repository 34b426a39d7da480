"""The requests and responses of Cohere's fine-tuning API.

Source: Cohere API, v1/finetuning, and its OpenAPI document.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import attrs
from attrs import evolve

from cfai._types.json import structure
from cfai._wire.bodies import encode_json
from cfai._wire.errors import read_document
from cfai._wire.pagination import ListPage, PageFacts, TokenCursor
from cfai._wire.requests import Request, build_headers
from cfai._wire.responses import Response
from cfai.cohere.models import BaseType, Event, FinetunedModel, Settings, TrainingStepMetrics
from cfai.errors import ConfigError, DecodeError, InputError, StatusError
from cfai.settings import Options, Settings as ClientSettings

R = TypeVar("R")
T = TypeVar("T")

MODELS: Final = "/v1/finetuning/finetuned-models"

_ORDER_FIELD: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_.]*)(?: +desc)?")
_READ_ONLY: Final = frozenset({"version", "multi_label"})

# Protocol Buffers, "JSON Mapping": JSON has no numbers for these.
_SPECIAL_NUMBERS: Final = {
    "NaN": float("nan"),
    "Infinity": float("inf"),
    "-Infinity": float("-inf"),
}


# Requests


def check_gateway(settings: ClientSettings) -> None:
    """Check that the options of a gateway, such as its token, are not sent to Cohere itself.

    Raises:
        ConfigError: There is a gateway, and the address is Cohere's own.
    """
    host = urlsplit(settings.base_url).hostname or ""
    if settings.gateway is not None and host.endswith((".cohere.com", ".cohere.ai")):
        raise ConfigError(
            "gateway needs the base_url of an AI Gateway, and the base_url is Cohere's"
        )


def first_page(page_size: int | None, order_by: str | Iterable[str] | None = None) -> TokenCursor:
    """The cursor of the first page of a list.

    Raises:
        InputError: The size or the order is invalid.
    """
    if page_size is not None and (type(page_size) is not int or not 0 <= page_size < 2**31):
        raise InputError(
            f"page_size must be an integer from 0 to 2147483647, got {page_size!r:.60}"
        )
    return TokenCursor(size=page_size, order_by=_format_order(order_by))


def _format_order(order_by: Any) -> str | None:
    """Check an order and normalize its spaces: `created_at desc,name`.

    Raises:
        InputError: It has no fields, invalid ones, or one twice.
    """
    if order_by is None:
        return None
    if not isinstance(order_by, Iterable):
        raise InputError(f"order_by must be a string or several, got {order_by!r:.60}")
    parts = order_by.split(",") if isinstance(order_by, str) else list(order_by)
    fields = []
    for part in parts:
        match = _ORDER_FIELD.fullmatch(part.strip()) if isinstance(part, str) else None
        if match is None:
            raise InputError(f'order_by must consist of "field" or "field desc", got {part!r:.60}')
        fields.append(match[1])
    if not fields or len(set(fields)) < len(fields):
        raise InputError(f"order_by must have fields, each only once, got {order_by!r:.100}")
    return ",".join(" ".join(part.split()) for part in parts)


def model_path(model: FinetunedModel | str, rest: str = "") -> str:
    """The path of a fine-tuned model. Its id may contain any characters.

    Raises:
        InputError: The id is empty, or can't be part of a path.
    """
    model_id = model.id if isinstance(model, FinetunedModel) else model
    if not isinstance(model_id, str) or model_id in ("", ".", ".."):
        raise InputError(
            f"id must be a non-empty string other than . and .., got {model_id!r:.100}"
        )
    try:
        return f"{MODELS}/{quote(model_id, safe='')}{rest}"
    except UnicodeEncodeError as exc:
        raise InputError(f"id must be valid Unicode, got {model_id!r:.100}") from exc


def build_request(
    settings: ClientSettings, options: Options | None, path: str, method: str = "GET"
) -> Request:
    """A request without a body."""
    return Request(method, path, _headers(settings, options))


def build_list_request(
    settings: ClientSettings, options: Options | None, path: str, query: Mapping[str, str]
) -> Request:
    """A request for one page of a list."""
    # Commas are documented unescaped, which RFC 3986, section 3.4, allows.
    text = urlencode(query, safe=",")
    return build_request(settings, options, f"{path}?{text}" if text else path)


def build_model_request(
    settings: ClientSettings,
    options: Options | None,
    name: str,
    training: Settings,
    *,
    path: str = MODELS,
    method: str = "POST",
) -> Request:
    """Create a model (`POST`, which must not be repeated) or change it (`PATCH`).

    Raises:
        InputError: A required field is empty.
    """
    if not isinstance(training, Settings):
        raise InputError(f"settings must be cohere.Settings, got {type(training).__name__}")
    _check_text("dataset_id", training.dataset_id)
    _check_text("base_type", getattr(training.base_model, "base_type", None))
    body = encode_json({"name": _check_text("name", name), "settings": _to_json(training)})
    headers = _headers(settings, options, **{"Content-Type": "application/json"})
    return Request(method, path, headers, body, repeatable=method != "POST")


def _headers(settings: ClientSettings, options: Options | None, **own: str) -> Mapping[str, str]:
    headers = build_headers(settings, options, own)
    # The address of a gateway contains its id.
    return {name: value for name, value in headers.items() if name != "cf-aig-gateway-id"}


def _check_text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise InputError(f"{name} must be a non-empty string, got {value!r:.60}")
    return value


def _to_json(value: Any) -> Any:
    """A value as JSON, without omitted and read-only fields.

    An empty key is omitted too: the service does not return keys, and an empty one would replace
    the key that it has.
    """
    if not attrs.has(type(value)):
        return value
    fields = {field.name: getattr(value, field.name) for field in attrs.fields(type(value))}
    return {
        name: _to_json(item)
        for name, item in fields.items()
        if item is not None and name not in _READ_ONLY and (name != "api_key" or item)
    }


def body_secrets(training: object) -> tuple[str, ...]:
    """The secrets in the body of a request."""
    wandb = getattr(training, "wandb", None)
    key = getattr(wandb, "api_key", None)
    return (key,) if isinstance(key, str) and key else ()


# Responses


def read_response(response: Response, read: Callable[[Any], T]) -> T:
    """Return what *read* makes of the decoded body.

    Raises:
        StatusError: The service refused.
        DecodeError: The body has an undocumented form.
    """
    try:
        return read(read_document(response))
    except StatusError as exc:
        exc.from_elsewhere()
        raise


def read_deleted(response: Response) -> None:
    """Check that a deletion succeeded: the body is `{}`, or empty."""
    if response.body or not 200 <= response.status < 300:
        read_response(response, lambda _: None)


def read_model(document: Any) -> FinetunedModel:
    """The model of a response about one model."""
    row = document.get("finetuned_model") if isinstance(document, Mapping) else None
    if not isinstance(row, Mapping):
        raise DecodeError("the response must have a finetuned_model, and has none")
    return _read_model(row, "finetuned_model")


def read_models(document: Any) -> ListPage[FinetunedModel]:
    """A page of fine-tuned models."""
    return _read_page(document, "finetuned_models", _read_model)


def read_events(document: Any) -> ListPage[Event]:
    """A page of events."""
    return _read_page(document, "events", _read_event)


def read_metrics(document: Any) -> ListPage[TrainingStepMetrics]:
    """A page of training metrics."""
    return _read_page(document, "step_metrics", _read_metrics)


def _read_page(document: Any, key: str, read_row: Callable[[Any, str], R]) -> ListPage[R]:
    """Read a page, whose rows are under *key*. An empty page may be `{}`."""
    keys = {key, "next_page_token", "total_size"}
    if not isinstance(document, Mapping) or (document and not keys & document.keys()):
        raise DecodeError(f"the response must be a page of {key}")
    raw, token = document.get(key), document.get("next_page_token")
    raw = [] if raw is None else raw
    if not isinstance(raw, list) or not isinstance(token, str | None):
        raise DecodeError(f"{key} must be a list, and next_page_token a string")
    rows = [read_row(row, f"{key}[{index}]") for index, row in enumerate(raw)]
    return ListPage(rows, raw, PageFacts(count=len(raw), token=token or None))


def _read_model(row: Any, where: str) -> FinetunedModel:
    fields = _without_nulls(row)
    if isinstance(fields, Mapping) and isinstance(fields.get("settings"), Mapping):
        training = fields["settings"]
        wandb = _with_defaults(training, "wandb", project="", api_key="")
        if wandb and not isinstance(wandb["wandb"]["api_key"], str):
            # The usual message would show the value.
            raise DecodeError(f"{where}.settings.wandb.api_key must be a string")
        base = _with_defaults(training, "base_model", base_type=BaseType.UNSPECIFIED.value)
        settings = {"dataset_id": "", **training, **base, **wandb}
        fields = {"name": "", **fields, "settings": settings}
    return evolve(structure(fields, FinetunedModel, where), raw=_without_keys(row))


def _read_event(row: Any, where: str) -> Event:
    return evolve(structure(_without_nulls(row), Event, where), raw=row)


def _read_metrics(row: Any, where: str) -> TrainingStepMetrics:
    fields = _without_nulls(row)
    if isinstance(fields, Mapping) and isinstance(fields.get("metrics"), Mapping):
        metrics = {name: _read_number(value) for name, value in fields["metrics"].items()}
        fields = {**fields, "metrics": metrics}
    return evolve(structure(fields, TrainingStepMetrics, where), raw=row)


def _read_number(value: Any) -> Any:
    return _SPECIAL_NUMBERS.get(value, value) if isinstance(value, str) else value


def _without_nulls(value: Any) -> Any:
    """JSON without its nulls: here, null means the same as an omitted field."""
    if isinstance(value, Mapping):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return value


def _with_defaults(fields: Any, key: str, **defaults: str) -> dict[str, Any]:
    """The object under *key*, with the empty strings that the service omits."""
    if not isinstance(fields.get(key), Mapping):
        return {}
    return {key: {**defaults, **fields[key]}}


def _without_keys(value: Any) -> Any:
    """Decoded JSON with every `api_key` hidden."""
    if isinstance(value, Mapping):
        return {
            name: "***" if name == "api_key" else _without_keys(item)
            for name, item in value.items()
        }
    return [_without_keys(item) for item in value] if isinstance(value, list | tuple) else value
