"""The routes of a run besides `/ai/run/{model}`: their choice, and the fields of their bodies.

`/ai/v1/chat/completions` takes conversations in OpenAI's form, with the model among the fields.
`/ai/run` takes `{model, input}`, for models of other providers.
"""

from collections.abc import Mapping
from typing import Any

from cfai._types.excerpts import format_value
from cfai._wire.bodies import adapt_fields
from cfai.errors import InputError
from cfai.profiles import Profile, is_gateway_route, profile
from cfai.settings import Route
from cfai.tasks import Generation, Prompt, ResponseFormat, Task, rules
from cfai.tasks.generation import is_wrapped_schema


def choose_route(
    model_profile: Profile,
    task: Task[Any] | Mapping[str, Any],
    chosen: Route | None,
    *,
    stream: bool,
) -> Route:
    """The route of a run: *chosen*, or the one of the model's profile.

    Raises:
        InputError: The chosen route does not take the model, or does not stream.
    """
    route = chosen or model_profile.route
    if route != "chat" and is_gateway_route(model_profile.model):
        raise InputError(
            f"Options.route must be chat for {model_profile.model}, got {route}: leave it out"
        )
    if route == "universal" and stream:
        # Cloudflare docs, ai-gateway/usage: run-api.mdx@0a26bf7 has "no streaming", and
        # rest-api.mdx@0309c8b streams a model of another provider as a chat.
        if chosen is None and is_chat(task):
            return "chat"
        raise InputError("the route universal does not stream: call run(), or stream a chat")
    return route


def is_chat(task: Task[Any] | Mapping[str, Any]) -> bool:
    """Whether *task* is a conversation, or a prompt that can be sent as one."""
    if isinstance(task, Prompt):
        return not task.raw
    return isinstance(task, Generation) or (not isinstance(task, Task) and "messages" in task)


def chat_fields(
    model: str,
    task: Task[Any] | Mapping[str, Any],
    added: Mapping[str, Any],
    *,
    route: Route = "chat",
) -> dict[str, Any]:
    """The fields of a chat completion: those of *task* in OpenAI's form, and those *added*.

    Source: Cloudflare docs, Workers AI, "OpenAI compatible API endpoints".

    Raises:
        InputError: The task is no conversation, or has a field that this route does not have.
    """
    if not is_chat(task):
        raise InputError(f"the route {route} {_describe_chats(task)}; {_way_out(model)}")
    if not isinstance(task, Task):
        return {"model": model, **task, **added} | {"model": model}
    fields = task.payload_for(model)
    if isinstance(task, Prompt):
        fields = {"messages": [{"role": "user", "content": fields.pop("prompt")}], **fields}
    if fields.pop("raw", False):
        raise InputError(f"raw must not be set on the route {route}; {_way_out(model)}")
    if "functions" in fields:
        # OpenAI's `functions` are definitions; those with code exist in Workers AI's API only.
        problem = f"functions must not be set on the route {route}"
        raise InputError(f"{problem}: use tools; or {_way_out(model)}")
    if "tools" in fields:
        fields["tools"] = [_nest_tool(tool) for tool in fields["tools"]]
    if not model.startswith("@"):
        fields = _wrap_schema(fields, getattr(task, "response_format", None))
    return {"model": model, **adapt_fields({**fields, **added}, profile(model))}


def universal_fields(
    model: str, task: Task[Any] | Mapping[str, Any], added: Mapping[str, Any]
) -> dict[str, Any]:
    """The fields of `/ai/run`: the model, and under `input` those of *task* and those *added*.

    Chats are in OpenAI's form. Other tasks keep the names of their fields.

    Source: Cloudflare docs, ai-gateway/usage/rest-api.mdx@0309c8b, "universal endpoint".

    Raises:
        InputError: The task has media or a list of texts, whose form differs between providers.
    """
    if is_chat(task):
        fields = chat_fields(model, task, added, route="universal")
        del fields["model"]
    elif isinstance(task, Task):
        fields = {**task.payload_for(model), **added}
        media = [name for name, rule in rules(type(task)).items() if rule.kind == "media"]
        if task.texts is not None or any(name in fields for name in media):
            kind = type(task).__name__
            raise InputError(
                f"the route universal does not take {kind}, because each provider has its own form"
                f" of these fields; {_way_out(model)}"
            )
    else:
        fields = {**task, **added}
    return {"model": model, "input": fields}


def _describe_chats(task: Task[Any] | Mapping[str, Any]) -> str:
    if isinstance(task, Prompt):
        return "has no raw prompts"
    if isinstance(task, Task):
        return f"takes a Prompt or a TextGeneration, got {type(task).__name__}"
    return f"takes a mapping with messages, got the fields {format_value(list(task))}"


def _way_out(model: str) -> str:
    match profile(model).route:
        case "chat":
            return f"{model} is a route of AI Gateway, so name a model instead to send it"
        case "universal":
            return f"pass a mapping of the fields that {model} takes, on the route universal"
    return 'send it with Options(route="run")'


def _nest_tool(tool: Any) -> Any:
    """A tool in OpenAI's form: the definition under `function`."""
    if isinstance(tool, Mapping) and "function" not in tool and "name" in tool:
        return {"type": "function", "function": tool}
    return tool


def _wrap_schema(fields: dict[str, Any], chosen: ResponseFormat | None) -> dict[str, Any]:
    """Give a JSON schema the wrapper with a name that OpenAI's models need: the user's, if any.

    Workers AI's own models take the schema alone ("JSON Mode").
    """
    match fields:
        case {"response_format": {"json_schema": Mapping() as schema} as response_format}:
            given = schema if chosen is None else chosen.json_schema
            wrapped = dict(given) if is_wrapped_schema(given) else {"schema": schema}
            wrapped["name"] = wrapped.get("name") or "answer"
            return {**fields, "response_format": {**response_format, "json_schema": wrapped}}
    return fields
