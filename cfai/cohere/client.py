"""`Cohere`: the client of Cohere's fine-tuning API, which Cohere is retiring.

It comes first, followed by the functions that check arguments and read responses.
Source: Cohere API, v1/finetuning, and its OpenAPI document.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote, urlsplit

import attrs
from attrs import evolve, frozen

from cfai._session.addresses import check_base_url, resolve_proxy
from cfai._session.client import Account, Client
from cfai._session.connections import Connections
from cfai._session.credentials import check_header_value, value_or_environment
from cfai._session.logs import configure_logging
from cfai._session.pagination import Pager
from cfai._session.session import Session
from cfai._types.excerpts import format_value
from cfai._types.json import read_as
from cfai._validators import hide_arguments
from cfai._wire.bodies import encode_json
from cfai._wire.errors import read_document
from cfai._wire.pagination import ListPage, PageFacts, TokenCursor, build_page
from cfai._wire.requests import Request, build_headers, encode_query
from cfai._wire.responses import Response
from cfai.cohere.models import BaseType, Event, FinetunedModel, Settings, TrainingStepMetrics
from cfai.errors import ConfigError, DecodeError, InputError, StatusError
from cfai.settings import (
    DEFAULT_RETRIES,
    DEFAULT_TIMEOUTS,
    Credentials,
    Gateway,
    Options,
    Retries,
    Settings as ClientSettings,
    Timeouts,
)

if TYPE_CHECKING:
    from ssl import SSLContext

    import aiohttp

R = TypeVar("R")
T = TypeVar("T")

API: Final = "https://api.cohere.com"
"""The default of `base_url`."""

_MODELS: Final = "/v1/finetuning/finetuned-models"

_ORDER_FIELD: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_.]*)(?: +desc)?")
_READ_ONLY: Final = frozenset({"version", "multi_label"})

# Protocol Buffers, "JSON Mapping": JSON has no numbers for these.
_SPECIAL_NUMBERS: Final = {
    "NaN": float("nan"),
    "Infinity": float("inf"),
    "-Infinity": float("-inf"),
}

# Cohere's release notes, 2025-09-15.
_RETIRED: Final = (
    "Cohere deprecated fine-tuning on 2025-09-15: it is being retired, from the dashboard and the"
    " API, and models fine-tuned before will no longer be accessible"
)


@frozen(eq=False, repr=False)
class CohereAccount(Account):
    """Sends requests as Cohere's API expects them, and reads its responses."""

    def for_call(self, options: Options | None) -> ClientSettings:
        """The settings of one call.

        Raises:
            ConfigError: The options of a gateway would be sent to Cohere.
        """
        settings = self.settings.for_call(options)
        host = urlsplit(settings.base_url).hostname or ""
        if settings.gateway is not None and host.endswith((".cohere.com", ".cohere.ai")):
            raise ConfigError(
                "gateway needs the base_url of an AI Gateway, and the base_url is Cohere's"
            )
        return settings

    def read_response(self, response: Response, read: Callable[[Any], T]) -> T:
        """Return what *read* makes of the decoded response, or raise the error that it reports."""
        try:
            return read(read_document(response))
        except StatusError as exc:
            exc.drop_status_hint()
            raise

    def list_request(
        self, settings: ClientSettings, options: Options | None, path: str, query: Mapping[str, str]
    ) -> Request:
        """The request for one page of a list."""
        # Commas are documented unescaped, which RFC 3986, section 3.4, allows.
        text = encode_query(query, safe=",")
        return Request("GET", f"{path}?{text}" if text else path, _headers(settings, options))


class Cohere(Client):
    """A client of Cohere's fine-tuned models: list, create, change and delete them.

    Cohere is retiring this API, so creating a client emits a `DeprecationWarning`. Connections,
    retries and errors work as in `cfai.WorkersAI`.

    ```python
    async with Cohere() as cohere:  # CO_API_KEY
        async for model in cohere.finetuned_models(order_by="created_at desc"):
            print(model.id, model.name, model.status)
    ```
    """

    @hide_arguments
    def __init__(  # noqa: PLR0913  # every option of a client
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        client_name: str | None = None,
        gateway: Gateway | None = None,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        retries: Retries = DEFAULT_RETRIES,
        limit: int = 100,
        headers: Mapping[str, str] | None = None,
        proxy: str | None = None,
        ssl: SSLContext | None = None,
        session: aiohttp.ClientSession | None = None,
        max_answer_bytes: int = 256 * 2**20,
        allow_insecure: bool = False,
    ) -> None:
        """Create a client. Environment variables are read here and nowhere else.

        Args:
            api_key: Defaults to `CO_API_KEY`, else `COHERE_API_KEY`.
            base_url: The address of the API, without `/v1`. Defaults to `CO_API_URL`, else
                Cohere's. For an AI Gateway it is
                `https://gateway.ai.cloudflare.com/v1/{account_id}/{gateway_id}/cohere`; whether a
                gateway forwards these endpoints is not documented.
            client_name: The name of your project, sent as `X-Client-Name`.
            gateway: Options of that AI Gateway, and its token. Needs its *base_url*.
            timeouts: Time limits of every call.
            retries: When failed attempts are repeated.
            limit: The most concurrent requests, per event loop.
            headers: Sent with every request.
            proxy: The address of a proxy. Defaults to the environment's (`HTTPS_PROXY`, …).
            ssl: Trusted certificates, as of `ssl.create_default_context(cafile=…)`.
            session: An aiohttp session to use instead; the client does not close it.
            max_answer_bytes: The size limit of a response, decompressed.
            allow_insecure: Send the key over plain http to other machines, too.

        Raises:
            ConfigError: The key is missing, or the key or the address is invalid.
        """
        warnings.warn(_RETIRED, DeprecationWarning, stacklevel=3)
        configure_logging()
        key = value_or_environment(api_key, "CO_API_KEY", "COHERE_API_KEY")
        if key is None:
            raise ConfigError("no key: pass api_key, or set CO_API_KEY")
        url = value_or_environment(base_url, "CO_API_URL")
        url = check_base_url(API if url is None else url, allow_insecure=allow_insecure)
        # Every path begins with /v1, which some examples of AI Gateway include in the address.
        url = url.removesuffix("/v1").rstrip("/")
        own_headers = {} if client_name is None else {"X-Client-Name": client_name}
        self._settings = ClientSettings(
            account_id="",
            credentials=Credentials(api_token=check_header_value("api_key", key)),
            base_url=url,
            gateway=gateway,
            timeouts=timeouts,
            retries=retries,
            headers={**own_headers, **(headers or {})},
            proxy=resolve_proxy(
                proxy, url, use_environment=session is None, allow_insecure=allow_insecure
            ),
            max_answer_bytes=max_answer_bytes,
        )
        self._session = Session(Connections(limit=limit, session=session, ssl=ssl))
        self._owns_connections = True
        self._account = CohereAccount(self._session, self._settings)
        self._account.for_call(None)

    def finetuned_models(
        self,
        *,
        page_size: int | None = None,
        order_by: str | Iterable[str] | None = None,
        options: Options | None = None,
    ) -> Pager[FinetunedModel]:
        """List the fine-tuned models.

        Args:
            page_size: The most rows per page; 0 means the service's default of 50.
            order_by: The fields to sort by, ascending, or descending with " desc" after the name:
                in one string ("created_at desc,name") or one by one. Only `created_at` is
                documented.
            options: Options for this call only.

        Raises:
            InputError: The size or the order is invalid. Nothing was sent.

        Source: Cohere API, `GET /v1/finetuning/finetuned-models`.
        """
        return self._account.pager(
            _MODELS,
            lambda document: _read_page(document, "finetuned_models", _read_model),
            _first_page(page_size, order_by),
            options=options,
        )

    async def create(
        self, name: str, settings: Settings, *, options: Options | None = None
    ) -> FinetunedModel:
        """Start the training of a model. It goes on afterwards; `status` reports its state.

        To avoid creating it twice, only a 429 and a failed connect are retried.

        Args:
            name: The model's name.
            settings: The base model, the data and the parameters. Fields that only the service sets
                are not sent.
            options: Options for this call only.

        Raises:
            InputError: A required field is empty. Nothing was sent.
            StatusError: An error response.

        Source: Cohere API, `POST /v1/finetuning/finetuned-models`.
        """
        return await self._send_settings("POST", _MODELS, name, settings, options)

    async def get(
        self, model: FinetunedModel | str, *, options: Options | None = None
    ) -> FinetunedModel:
        """Return the current state of a model, by its id or by an earlier `FinetunedModel`.

        Raises:
            NotFound: There is no such model.

        Source: Cohere API, `GET /v1/finetuning/finetuned-models/{id}`.
        """
        call = self._account.for_call(options)
        request = Request("GET", _model_path(model), _headers(call, options))
        return await self._account.send(request, call, _read_changed_model)

    async def update(
        self,
        model: FinetunedModel | str,
        *,
        name: str,
        settings: Settings,
        options: Options | None = None,
    ) -> FinetunedModel:
        """Change a model. The service requires its name and settings, even if they stay the same.

        Raises:
            InputError: A required field is empty. Nothing was sent.
            NotFound: There is no such model.

        Source: Cohere API, `PATCH /v1/finetuning/finetuned-models/{id}`.
        """
        return await self._send_settings("PATCH", _model_path(model), name, settings, options)

    async def _send_settings(
        self, method: str, path: str, name: str, settings: Settings, options: Options | None
    ) -> FinetunedModel:
        """Create a model (`POST`, which must not be repeated) or change it (`PATCH`)."""
        call = self._account.for_call(options)
        if not isinstance(settings, Settings):
            raise InputError(f"settings must be cohere.Settings, got {type(settings).__name__}")
        base_type = getattr(settings.base_model, "base_type", None)
        required = {"dataset_id": settings.dataset_id, "base_type": base_type, "name": name}
        for field, value in required.items():
            if not isinstance(value, str) or not value:
                raise InputError(f"{field} must be a non-empty string, got {format_value(value)}")
        # No variable holds a secret while this waits: error trackers collect them.
        call = evolve(call, body_secrets=_body_secrets(settings))
        request = Request(
            method,
            path,
            _headers(call, options, **{"Content-Type": "application/json"}),
            encode_json({"name": name, "settings": _to_json(settings)}),
            repeatable=method != "POST",
        )
        return await self._account.send(request, call, _read_changed_model)

    async def delete(self, model: FinetunedModel | str, *, options: Options | None = None) -> None:
        """Delete a model permanently.

        Raises:
            NotFound: There is no such model. This also happens if an attempt deleted it, its
                response was lost, and the attempt was repeated.

        Source: Cohere API, `DELETE /v1/finetuning/finetuned-models/{id}`.
        """
        call = self._account.for_call(options)
        request = Request("DELETE", _model_path(model), _headers(call, options))

        def read(response: Response) -> None:
            # The body is {}, or empty.
            if response.body or not 200 <= response.status < 300:
                self._account.read_response(response, lambda _: None)

        await self._session.call(request, call, read_response=read)

    def events(
        self,
        model: FinetunedModel | str,
        *,
        page_size: int | None = None,
        order_by: str | Iterable[str] | None = None,
        options: Options | None = None,
    ) -> Pager[Event]:
        """List the changes of a model's status. Without *order_by*, their order is undefined.

        Args:
            model: The model or its id.
            page_size: As for `finetuned_models`.
            order_by: As for `finetuned_models`.
            options: Options for this call only.

        Source: Cohere API, `GET /v1/finetuning/finetuned-models/{finetuned_model_id}/events`.
        """
        return self._account.pager(
            _model_path(model) + "/events",
            lambda document: _read_page(document, "events", _read_event),
            _first_page(page_size, order_by),
            options=options,
        )

    def training_step_metrics(
        self,
        model: FinetunedModel | str,
        *,
        page_size: int | None = None,
        options: Options | None = None,
    ) -> Pager[TrainingStepMetrics]:
        """List the metrics of a model's training, step by step.

        Args:
            model: The model or its id.
            page_size: As for `finetuned_models`.
            options: Options for this call only.

        Source: Cohere API, `GET /v1/finetuning/finetuned-models/{…}/training-step-metrics`.
        """
        return self._account.pager(
            _model_path(model) + "/training-step-metrics",
            lambda document: _read_page(document, "step_metrics", _read_metrics),
            _first_page(page_size),
            options=options,
        )


# Requests


def _first_page(page_size: int | None, order_by: str | Iterable[str] | None = None) -> TokenCursor:
    """The cursor of the first page of a list.

    Raises:
        InputError: The size or the order is invalid.
    """
    if page_size is not None and (type(page_size) is not int or not 0 <= page_size < 2**31):
        raise InputError(
            f"page_size must be an integer from 0 to 2147483647, got {format_value(page_size)}"
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
        raise InputError(f"order_by must be a string or several, got {format_value(order_by)}")
    parts = order_by.split(",") if isinstance(order_by, str) else list(order_by)
    fields = []
    for part in parts:
        match = _ORDER_FIELD.fullmatch(part.strip()) if isinstance(part, str) else None
        if match is None:
            raise InputError(
                f'order_by must consist of "field" or "field desc", got {format_value(part)}'
            )
        fields.append(match[1])
    if not fields or len(set(fields)) < len(fields):
        raise InputError(f"order_by must have fields, each only once, got {format_value(order_by)}")
    return ",".join(" ".join(part.split()) for part in parts)


def _model_path(model: FinetunedModel | str) -> str:
    """The path of a fine-tuned model. Its id may contain any characters.

    Raises:
        InputError: The id is empty, or can't be part of a path.
    """
    model_id = model.id if isinstance(model, FinetunedModel) else model
    if not isinstance(model_id, str) or model_id in ("", ".", ".."):
        raise InputError(
            f"id must be a non-empty string other than . and .., got {format_value(model_id)}"
        )
    try:
        return f"{_MODELS}/{quote(model_id, safe='')}"
    except UnicodeEncodeError as exc:
        raise InputError(f"id must be valid Unicode, got {format_value(model_id)}") from exc


def _headers(
    settings: ClientSettings, options: Options | None, **body_headers: str
) -> Mapping[str, str]:
    headers = build_headers(settings, options, body_headers)
    # The address of a gateway contains its id.
    return {name: value for name, value in headers.items() if name != "cf-aig-gateway-id"}


def _to_json(value: Settings) -> dict[str, Any]:
    """A value as JSON, without omitted and read-only fields.

    An empty key is omitted too: the service does not return keys, and an empty one would replace
    the key that it has.
    """
    return attrs.asdict(
        value,
        filter=lambda field, item: (
            item is not None
            and field.name not in _READ_ONLY
            and (field.name != "api_key" or item != "")
        ),
    )


# Responses


def _read_changed_model(document: Any) -> FinetunedModel:
    """The model of a response about one model."""
    row = document.get("finetuned_model") if isinstance(document, Mapping) else None
    if not isinstance(row, Mapping):
        raise DecodeError("the response must have a finetuned_model, and has none")
    return _read_model(row, "finetuned_model")


def _read_page(document: Any, key: str, read_row: Callable[[Any, str], R]) -> ListPage[R]:
    """Read a page, whose rows are under *key*. An empty page may be `{}`."""
    keys = {key, "next_page_token", "total_size"}
    if not isinstance(document, Mapping) or (document and not keys & document.keys()):
        raise DecodeError(f"the response must be a page of {key}")
    raw, token = document.get(key), document.get("next_page_token")
    raw = [] if raw is None else raw
    if not isinstance(raw, list) or not isinstance(token, str | None):
        raise DecodeError(f"{key} must be a list, and next_page_token a string")
    return build_page(raw, read_row, key, PageFacts(count=len(raw), token=token or None))


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
    return evolve(read_as(fields, FinetunedModel, where), raw=_without_keys(row))


def _body_secrets(settings: Settings) -> tuple[str, ...]:
    key = getattr(settings.wandb, "api_key", None)
    return () if key is None else (key,)


def _read_event(row: Any, where: str) -> Event:
    return evolve(read_as(_without_nulls(row), Event, where), raw=row)


def _read_metrics(row: Any, where: str) -> TrainingStepMetrics:
    fields = _without_nulls(row)
    special: dict[str, float] = {}
    if isinstance(fields, Mapping) and isinstance(fields.get("metrics"), Mapping):
        metrics = fields["metrics"].items()
        special = {
            name: _SPECIAL_NUMBERS[value]
            for name, value in metrics
            if isinstance(value, str) and value in _SPECIAL_NUMBERS
        }
        rest = {name: value for name, value in metrics if name not in special}
        fields = {**fields, "metrics": rest}
    step = read_as(fields, TrainingStepMetrics, where)
    return evolve(step, metrics={**step.metrics, **special}, raw=row)


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
