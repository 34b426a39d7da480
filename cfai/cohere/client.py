"""`Cohere`: the client of Cohere's fine-tuning, which Cohere is retiring, and its rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from attrs import evolve

from cfai._session.addresses import check_base_url, resolve_proxy
from cfai._session.client import Client
from cfai._session.connections import Connections
from cfai._session.credentials import check_header_value, value_or_environment
from cfai._session.pagination import Pager
from cfai._session.session import Session
from cfai._validators import check_at_least
from cfai._wire.pagination import Cursor, ListPage, PageToken
from cfai._wire.requests import Request
from cfai._wire.responses import Reply
from cfai.cohere import requests as wire
from cfai.cohere.models import (
    Event,
    FinetunedModel,
    Settings,
    TrainingStepMetrics,
)
from cfai.errors import ConfigError
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
    import aiohttp

R = TypeVar("R")
T = TypeVar("T")

API: Final = "https://api.cohere.com"
"""Where Cohere answers, unless `base_url` or `CO_API_URL` says otherwise."""

# Cohere's release notes, 2025-09-15.
_RETIRED: Final = (
    "Cohere deprecated fine-tuning on 2025-09-15: it is being retired, from the dashboard and the"
    " API, and models fine-tuned before will no longer be accessible"
)


class Cohere(Client):
    """A client of Cohere's fine-tuned models: list, make, change and delete them, and look back.

    Cohere is retiring all of this, and making a client warns of it (`DeprecationWarning`). It keeps
    its connections, retries and reports errors as `cfai.WorkersAI` does.

    ```python
    async with Cohere() as cohere:  # CO_API_KEY
        async for model in cohere.finetuned_models(order_by="created_at desc"):
            print(model.id, model.name, model.status)
    ```
    """

    def __init__(  # noqa: PLR0913  # everything that a client can be told
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
        session: aiohttp.ClientSession | None = None,
        max_answer_bytes: int = 256 * 2**20,
        allow_insecure: bool = False,
    ) -> None:
        """Make a client. What is left out is read from the environment, here and only here.

        Args:
            api_key: Else `CO_API_KEY`, else `COHERE_API_KEY`.
            base_url: Where the API is, without `/v1`; else `CO_API_URL`, else Cohere's own. For an
                AI Gateway `https://gateway.ai.cloudflare.com/v1/{account_id}/{gateway_id}/cohere`;
                that one forwards these endpoints is not documented.
            client_name: The name of your project, sent as `X-Client-Name`.
            gateway: What that AI Gateway shall do, and its token. Needs its *base_url*.
            timeouts: Time limits of every call.
            retries: When failed attempts are repeated.
            limit: How many requests may be under way at once, on each event loop.
            headers: Sent with every request.
            proxy: The address of a proxy; else what the environment names (`HTTPS_PROXY`, …).
            session: An aiohttp session to use instead of our own. It is never closed by us.
            max_answer_bytes: The largest answer that is read, decompressed.
            allow_insecure: Send the key over plain http to other machines, too.

        Raises:
            ConfigError: The key is missing, or it or the address can't work.
        """
        warnings.warn(_RETIRED, DeprecationWarning, stacklevel=2)
        check_at_least("limit", limit, 1)
        named = {} if client_name is None else {"X-Client-Name": client_name}
        url = _address(base_url, allow_insecure=allow_insecure)
        self._settings = ClientSettings(
            account_id="",
            credentials=_credentials(api_key),
            base_url=url,
            gateway=gateway,
            timeouts=timeouts,
            retries=retries,
            headers={**named, **(headers or {})},
            proxy=resolve_proxy(proxy, url),
            max_answer_bytes=max_answer_bytes,
        )
        wire.check_gateway(self._settings)
        self._session, self._owns = Session(Connections(limit=limit, session=session)), True

    def finetuned_models(
        self,
        *,
        page_size: int | None = None,
        order_by: str | Iterable[str] | None = None,
        options: Options | None = None,
    ) -> Pager[FinetunedModel]:
        """List the fine-tuned models.

        Args:
            page_size: Rows a page, at most; for 0 the service takes its own 50.
            order_by: Fields, each ascending or with " desc" behind it: as one text with commas
                ("created_at desc,name"), or one by one. The service documents `created_at` alone.
            options: What differs for this list.

        Raises:
            InputError: The size or the order is none. Nothing was sent.

        Source: Cohere API, `GET /v1/finetuning/finetuned-models`.
        """
        return self._pager(wire.MODELS, wire.models, wire.start(page_size, order_by), options)

    async def create(
        self, name: str, settings: Settings, *, options: Options | None = None
    ) -> FinetunedModel:
        """Train a model, which goes on after this returned; `status` says how far it is.

        It is never made twice: of failed attempts, only a refusal (429) and a failed connect are
        repeated.

        Args:
            name: What to call it.
            settings: From what, on what and how. What only the service says is not sent.
            options: What differs for this call.

        Raises:
            InputError: What is required is empty. Nothing was sent.
            StatusError: The service said no.

        Source: Cohere API, `POST /v1/finetuning/finetuned-models`.
        """
        asking = partial(wire.written, name=name, trained=settings)
        return await self._ask(asking, wire.one, options, wire.secrets(settings))

    async def get(
        self, model: FinetunedModel | str, *, options: Options | None = None
    ) -> FinetunedModel:
        """Look a model up, by its id or as it was.

        Raises:
            NotFound: There is no such model.

        Source: Cohere API, `GET /v1/finetuning/finetuned-models/{id}`.
        """
        asking = partial(wire.bare, path=wire.model_path(model))
        return await self._ask(asking, wire.one, options)

    async def update(
        self,
        model: FinetunedModel | str,
        *,
        name: str,
        settings: Settings,
        options: Options | None = None,
    ) -> FinetunedModel:
        """Change a model. The service wants both its name and its settings, also what stays.

        Raises:
            InputError: What is required is empty. Nothing was sent.
            NotFound: There is no such model.

        Source: Cohere API, `PATCH /v1/finetuning/finetuned-models/{id}`.
        """
        path = wire.model_path(model)
        asking = partial(wire.written, name=name, trained=settings, path=path, method="PATCH")
        return await self._ask(asking, wire.one, options, wire.secrets(settings))

    async def delete(self, model: FinetunedModel | str, *, options: Options | None = None) -> None:
        """Delete a model, for good.

        Raises:
            NotFound: There is no such model; also where an attempt deleted it whose answer was
                lost, and which was repeated.

        Source: Cohere API, `DELETE /v1/finetuning/finetuned-models/{id}`.
        """
        asking = partial(wire.bare, path=wire.model_path(model), method="DELETE")
        await self._call(asking, wire.deleted, options)

    def events(
        self,
        model: FinetunedModel | str,
        *,
        page_size: int | None = None,
        order_by: str | Iterable[str] | None = None,
        options: Options | None = None,
    ) -> Pager[Event]:
        """List the changes of a model's status. Without *order_by*, their order is not defined.

        Args:
            model: It, or its id.
            page_size: As for `finetuned_models`.
            order_by: As for `finetuned_models`.
            options: What differs for this list.

        Source: Cohere API, `GET /v1/finetuning/finetuned-models/{finetuned_model_id}/events`.
        """
        path = wire.model_path(model, "/events")
        return self._pager(path, wire.events, wire.start(page_size, order_by), options)

    def training_step_metrics(
        self,
        model: FinetunedModel | str,
        *,
        page_size: int | None = None,
        options: Options | None = None,
    ) -> Pager[TrainingStepMetrics]:
        """List what was measured while a model was trained, step by step.

        Args:
            model: It, or its id.
            page_size: As for `finetuned_models`.
            options: What differs for this list.

        Source: Cohere API, `GET /v1/finetuning/finetuned-models/{…}/training-step-metrics`.
        """
        path = wire.model_path(model, "/training-step-metrics")
        return self._pager(path, wire.step_metrics, wire.start(page_size), options)

    def _pager(
        self,
        path: str,
        read: Callable[[Any], ListPage[R]],
        start: PageToken,
        options: Options | None,
    ) -> Pager[R]:
        async def fetch(cursor: Cursor) -> ListPage[R]:
            return await self._ask(partial(wire.page, path=path, cursor=cursor), read, options)

        return Pager(fetch, start)

    async def _ask(
        self,
        asking: Callable[[ClientSettings, Options | None], Request],
        read: Callable[[Any], T],
        options: Options | None,
        secrets: tuple[str, ...] = (),
    ) -> T:
        """Send a request, and give what *read* makes of the decoded answer."""
        return await self._call(asking, partial(wire.heard, read=read), options, secrets)

    async def _call(
        self,
        asking: Callable[[ClientSettings, Options | None], Request],
        read: Callable[[Reply], T],
        options: Options | None,
        secrets: tuple[str, ...] = (),
    ) -> T:
        settings = evolve(self._settings.for_call(options), in_body=secrets)
        wire.check_gateway(settings)
        return await self._session.call(asking(settings, options), settings, read=read)


def _credentials(api_key: str | None) -> Credentials:
    key = value_or_environment(api_key, "CO_API_KEY", "COHERE_API_KEY")
    if key is None:
        raise ConfigError("no key: pass api_key, or set CO_API_KEY")
    return Credentials(api_token=check_header_value("api_key", key))


def _address(given: str | None, *, allow_insecure: bool) -> str:
    url = value_or_environment(given, "CO_API_URL")
    # Every path has the /v1 that AI Gateway's own manual puts into the address now and then.
    url = check_base_url(API if url is None else url, allow_insecure=allow_insecure)
    return url.removesuffix("/v1").rstrip("/")
