"""The routes of the API: which path and method calls which handler."""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from cfai.local import errors, models
from cfai.local.exchange import ExchangeRecorder
from cfai.local.finetunes import FinetuneRegistry
from cfai.local.handlers import ModelRunner
from cfai.local.handlers.openai import OpenAIRoutes
from cfai.local.markdown import DocumentConverter
from cfai.local.queue import BatchRunner
from cfai.local.realtime import RealtimeRoutes
from cfai.local.requests import ApiRequest

RouteHandler = Callable[[ApiRequest], Awaitable[Any]]
"""Returns a result, which is sent inside the envelope, or a complete response."""

Routes = Mapping[str, Mapping[str, RouteHandler]]
"""Handlers by a pattern of the path below `/ai/` and by method. A group becomes the request's name.

The first matching pattern is used.
"""

_PATHS = (
    re.compile(r"/client/v4/accounts/(?P<account>[^/]+)/ai/(?P<rest>.+?)/?"),
    # AI Gateway's own host. Source: Cloudflare docs, AI Gateway, "Workers AI" and "Unified API".
    re.compile(r"/v1/(?P<account>[^/]+)/[^/]+/workers-ai/(?P<rest>(?:run|v1)/.+?)/?"),
    re.compile(r"/v1/(?P<account>[^/]+)/[^/]+/workers-ai/(?P<model>@.+?)/?"),
    # "Realtime WebSockets API": the model is in the query.
    re.compile(r"/v1/(?P<account>[^/]+)/[^/]+/workers-ai(?P<socket>)"),
    re.compile(r"/v1/(?P<account>[^/]+)/[^/]+/compat/(?P<compat>chat/completions)/?"),
)
"""The forms of a path. The API is below `/ai/`; a path of a gateway stands for one of those."""

_RUN = "run/(.+)"


def build_routes(
    runs: ModelRunner, queue: BatchRunner, finetunes: FinetuneRegistry, markdown: DocumentConverter
) -> Routes:
    """Return the table of every route."""

    async def run(request: ApiRequest) -> Any:
        queued = request.http.query.get("queueRequest", "false")
        if queued not in ("true", "false"):
            raise errors.bad_input(f"queueRequest must be true or false, got {queued[:60]!r}")
        if queued == "true":
            return await queue.submit_or_poll(request)
        return await runs.run(request)

    openai, realtime = OpenAIRoutes(runs), RealtimeRoutes(runs.others)
    return {
        _RUN: {"POST": run, "GET": realtime.open_run},
        "realtime": {"GET": realtime.open_named},
        "run": {"POST": runs.run_named},
        "v1/chat/completions": {"POST": openai.chat},
        "v1/completions": {"POST": openai.complete},
        "v1/embeddings": {"POST": openai.embed},
        "v1/responses": {"POST": openai.respond},
        "v1/messages": {"POST": openai.refuse_messages},
        "v1/models": {"GET": openai.list_models},
        "v1/models/(.+)": {"GET": openai.get_model},
        "finetunes": {"GET": finetunes.list_own, "POST": finetunes.create},
        "finetunes/public": {"GET": finetunes.list_public},
        "finetunes/([^/]+)/finetune-assets": {"POST": finetunes.upload},
        "models/search": {"GET": models.search_models},
        "models/schema": {"GET": models.get_schema},
        "tasks/search": {"GET": models.list_tasks},
        "authors/search": {"GET": models.list_authors},
        "tomarkdown": {"POST": markdown.convert},
        "tomarkdown/supported": {"GET": markdown.list_formats},
    }


def find_route(
    http_request: web.Request, routes: Routes, recorder: ExchangeRecorder
) -> tuple[ApiRequest, RouteHandler]:
    """Return the request with the parts of its path, and its handler.

    Slashes are separated before the path is decoded.

    Raises:
        ApiError: No route matches, or it does not allow this method.
    """
    path = http_request.raw_path.partition("?")[0]
    account, rest = split_path(path)
    for pattern, methods in routes.items():
        match = re.fullmatch(pattern, rest)
        if not match:
            continue
        if pattern == _RUN and "%2f" in path.lower():
            raise errors.no_route()
        handler = methods.get(http_request.method)
        if handler is None:
            raise errors.method_not_allowed(http_request.method)
        name = unquote("".join(match.groups()))
        model = name if pattern == _RUN else None
        return ApiRequest(http_request, account, recorder, name=name, model=model), handler
    raise errors.path_not_found(path)


def is_openai_path(path: str) -> bool:
    """Return whether a path belongs to OpenAI's protocols."""
    return any(part in path for part in ("/ai/v1/", "/workers-ai/v1/", "/compat/"))


def find_account(path: str) -> str:
    """Return the account in a path; an empty text if the path is not one of Workers AI."""
    try:
        return split_path(path)[0]
    except errors.ApiError:
        return ""


def split_path(path: str) -> tuple[str, str]:
    """Return the account in a path, and what follows `/ai/`, both without a final slash.

    Raises:
        ApiError: The path is not one of Workers AI.
    """
    for form in _PATHS:
        match = form.fullmatch(path)
        if match is None:
            continue
        parts = match.groupdict()
        if "model" in parts:
            rest = f"run/{parts['model']}"
        elif "socket" in parts:
            rest = "realtime"
        else:
            rest = parts.get("rest") or f"v1/{parts['compat']}"
        return unquote(parts["account"]), rest
    raise errors.path_not_found(path)
