"""`Cohere`: the client of Cohere's fine-tuning API, which Cohere is retiring."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from attrs import evolve, frozen

from cfai._session.account import Account
from cfai._session.addresses import check_base_url, resolve_proxy
from cfai._session.client import Client
from cfai._session.connections import Connections
from cfai._session.credentials import check_header_value, value_or_environment
from cfai._session.pagination import Pager
from cfai._session.session import Session
from cfai._validators import check_at_least
from cfai._wire.requests import Request
from cfai._wire.responses import Response
from cfai.cohere import requests
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

T = TypeVar("T")

API: Final = "https://api.cohere.com"
"""The default of `base_url`."""

# Cohere's release notes, 2025-09-15.
_RETIRED: Final = (
    "Cohere deprecated fine-tuning on 2025-09-15: it is being retired, from the dashboard and the"
    " API, and models fine-tuned before will no longer be accessible"
)


@frozen
class CohereAccount(Account):
    """Sends requests as Cohere's API expects them, and reads its responses."""

    def for_call(self, options: Options | None) -> ClientSettings:
        """The settings of one call.

        Raises:
            ConfigError: The options of a gateway would be sent to Cohere.
        """
        settings = self.settings.for_call(options)
        requests.check_gateway(settings)
        return settings

    def read_response(self, response: Response, read: Callable[[Any], T]) -> T:
        """Return what *read* makes of the decoded response, or raise the error that it reports."""
        return requests.read_response(response, read)

    def list_request(
        self, settings: ClientSettings, options: Options | None, path: str, query: Mapping[str, str]
    ) -> Request:
        """The request for one page of a list."""
        return requests.build_list_request(settings, options, path, query)


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
            session: An aiohttp session to use instead; the client does not close it.
            max_answer_bytes: The size limit of a response, decompressed.
            allow_insecure: Send the key over plain http to other machines, too.

        Raises:
            ConfigError: The key is missing, or the key or the address is invalid.
        """
        warnings.warn(_RETIRED, DeprecationWarning, stacklevel=2)
        check_at_least("limit", limit, 1)
        own_headers = {} if client_name is None else {"X-Client-Name": client_name}
        url = _resolve_address(base_url, allow_insecure=allow_insecure)
        self._settings = ClientSettings(
            account_id="",
            credentials=_resolve_credentials(api_key),
            base_url=url,
            gateway=gateway,
            timeouts=timeouts,
            retries=retries,
            headers={**own_headers, **(headers or {})},
            proxy=resolve_proxy(proxy, url),
            max_answer_bytes=max_answer_bytes,
        )
        requests.check_gateway(self._settings)
        self._session = Session(Connections(limit=limit, session=session))
        self._owns_connections = True
        self._account = CohereAccount(self._session, self._settings)

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
        start = requests.first_page(page_size, order_by)
        return self._account.pager(requests.MODELS, requests.read_models, start, options=options)

    async def create(
        self, name: str, settings: Settings, *, options: Options | None = None
    ) -> FinetunedModel:
        """Start the training of a model. It goes on afterwards; `status` reports its state.

        To avoid creating it twice, only a refusal (429) and a failed connect are retried.

        Args:
            name: The model's name.
            settings: The base model, the data and the parameters. Fields that only the service sets
                are not sent.
            options: Options for this call only.

        Raises:
            InputError: A required field is empty. Nothing was sent.
            StatusError: The service refused the request.

        Source: Cohere API, `POST /v1/finetuning/finetuned-models`.
        """
        call = evolve(self._account.for_call(options), in_body=requests.body_secrets(settings))
        request = requests.build_model_request(call, options, name, settings)
        return await self._account.send(request, call, requests.read_model)

    async def get(
        self, model: FinetunedModel | str, *, options: Options | None = None
    ) -> FinetunedModel:
        """Return the current state of a model, by its id or by an earlier `FinetunedModel`.

        Raises:
            NotFound: There is no such model.

        Source: Cohere API, `GET /v1/finetuning/finetuned-models/{id}`.
        """
        call = self._account.for_call(options)
        request = requests.build_request(call, options, requests.model_path(model))
        return await self._account.send(request, call, requests.read_model)

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
        path = requests.model_path(model)
        call = evolve(self._account.for_call(options), in_body=requests.body_secrets(settings))
        request = requests.build_model_request(
            call, options, name, settings, path=path, method="PATCH"
        )
        return await self._account.send(request, call, requests.read_model)

    async def delete(self, model: FinetunedModel | str, *, options: Options | None = None) -> None:
        """Delete a model permanently.

        Raises:
            NotFound: There is no such model. This also happens if an attempt deleted it, its
                response was lost, and the attempt was repeated.

        Source: Cohere API, `DELETE /v1/finetuning/finetuned-models/{id}`.
        """
        call = self._account.for_call(options)
        request = requests.build_request(call, options, requests.model_path(model), "DELETE")
        await self._session.call(request, call, read=requests.read_deleted)

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
        path = requests.model_path(model, "/events")
        start = requests.first_page(page_size, order_by)
        return self._account.pager(path, requests.read_events, start, options=options)

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
        path = requests.model_path(model, "/training-step-metrics")
        start = requests.first_page(page_size)
        return self._account.pager(path, requests.read_metrics, start, options=options)


def _resolve_credentials(api_key: str | None) -> Credentials:
    key = value_or_environment(api_key, "CO_API_KEY", "COHERE_API_KEY")
    if key is None:
        raise ConfigError("no key: pass api_key, or set CO_API_KEY")
    return Credentials(api_token=check_header_value("api_key", key))


def _resolve_address(base_url: str | None, *, allow_insecure: bool) -> str:
    url = value_or_environment(base_url, "CO_API_URL")
    url = check_base_url(API if url is None else url, allow_insecure=allow_insecure)
    # Every path begins with /v1, which some examples of AI Gateway include in the address.
    return url.removesuffix("/v1").rstrip("/")
