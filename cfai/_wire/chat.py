"""The body of `/ai/v1/chat/completions`: OpenAI's form of a conversation, with the model in it."""

from collections.abc import Mapping
from typing import Any

from cfai._wire.bodies import adapt_fields
from cfai.errors import InputError
from cfai.profiles import is_gateway_route, profile
from cfai.tasks import Prompt, Task, TextGeneration


def is_chat(task: Task[Any] | Mapping[str, Any]) -> bool:
    """Whether *task* is a conversation, or a prompt that can be sent as one."""
    if isinstance(task, Prompt):
        return not task.raw
    return isinstance(task, TextGeneration) or (not isinstance(task, Task) and "messages" in task)


def chat_fields(
    model: str, task: Task[Any] | Mapping[str, Any], added: Mapping[str, Any]
) -> dict[str, Any]:
    """The fields of a chat completion: those of *task* in OpenAI's form, and those *added*.

    Source: Cloudflare docs, Workers AI, "OpenAI compatible API endpoints".

    Raises:
        InputError: The task is no conversation, or has a field that this path does not have.
    """
    if not is_chat(task):
        raise InputError(f"{_describe(task)}; {_way_out(model)}")
    if not isinstance(task, Task):
        return {**task, "model": model, **added}
    fields = task.payload()
    if isinstance(task, Prompt):
        fields = {"messages": [{"role": "user", "content": fields.pop("prompt")}], **fields}
    if fields.pop("raw", False):
        raise InputError(f"raw must not be set on the route chat; {_way_out(model)}")
    if "functions" in fields:
        # OpenAI's `functions` are definitions; those with code exist in Workers AI's API only.
        raise InputError(
            f"functions must not be set on the route chat: use tools; or {_way_out(model)}"
        )
    if "tools" in fields:
        fields["tools"] = [_nest_tool(tool) for tool in fields["tools"]]
    if not model.startswith("@"):
        fields = _wrap_schema(fields)
    return {"model": model, **adapt_fields(fields, profile(model)), **added}


def _describe(task: Task[Any] | Mapping[str, Any]) -> str:
    if isinstance(task, Prompt):
        return "the route chat has no raw prompts"
    if isinstance(task, Task):
        return f"the route chat takes a Prompt or a TextGeneration, got {type(task).__name__}"
    return f"the route chat takes a mapping with messages, got the fields {list(task)!r:.100}"


def _way_out(model: str) -> str:
    if is_gateway_route(model):
        return f"{model} is a route of AI Gateway, so name a model instead to send it"
    return 'send it with Options(route="run")'


def _nest_tool(tool: Any) -> Any:
    """A tool in OpenAI's form: the definition under `function`."""
    if isinstance(tool, Mapping) and "function" not in tool and "name" in tool:
        return {"type": "function", "function": tool}
    return tool


def _wrap_schema(fields: dict[str, Any]) -> dict[str, Any]:
    """Give a JSON schema the wrapper with a name that OpenAI's models need.

    Workers AI's own models take the schema alone ("JSON Mode").
    """
    match fields:
        case {"response_format": {"json_schema": Mapping() as schema} as response_format}:
            if not isinstance(schema.get("schema"), Mapping):
                wrapped = {"name": "answer", "schema": schema}
                return {**fields, "response_format": {**response_format, "json_schema": wrapped}}
    return fields
