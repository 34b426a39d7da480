"""Reading requests for text: the bodies of Workers AI, chat completions, completions and Responses.

No field is ignored: each is used, has a value that asks for nothing, or is refused by its name.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from attrs import evolve, frozen

from cfai.local import errors
from cfai.local.backends.roles import Abilities, GenerationRequest
from cfai.local.handlers.dialects import (
    ChatDialect,
    ChatToolDialect,
    CompletionDialect,
    Dialect,
    NativeDialect,
    NativeToolDialect,
    ResponsesDialect,
    StreamDialect,
)
from cfai.local.handlers.messages import (
    PASSED_ON,
    accept_empty_content,
    build_messages,
    check_conversation,
    check_input,
    has_image,
    no_text,
    read_extra,
    render_messages,
)
from cfai.local.handlers.tool_calls import (
    ToolChoice,
    ToolDescription,
    ask_for_arguments,
    read_tool_choice,
)
from cfai.local.models import ServedModel
from cfai.local.requests import (
    JsonBody,
    check_fields,
    check_shape,
    missing_fields,
    unknown_field,
)
from cfai.tasks import Prompt, Task, TextGeneration, rules
from cfai.tasks.task import shorten

_MAX_TOKENS = 256
"""The service's default, from the input schemas of its models."""

_LARGEST_LIMIT = 2**31 - 1

_TEMPERATURE = 0.2
"""Not the service's 0.6, with which a model of this size often chooses a wrong word."""

_SYSTEM = "You are a helpful assistant. Answer correctly and briefly."
"""The system message of a conversation that has none. The model's own names the model."""

_SAMPLING = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "repetition_penalty": "repeat_penalty",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
}
"""The service's names of the sampling parameters, and llama.cpp's."""


def _name_fields(task: type[Task[Any]]) -> set[str]:
    return {name for name, rule in rules(task).items() if not rule.translated}


_PROMPT_FIELDS = _name_fields(Prompt)
_FIELDS = frozenset(
    {*_PROMPT_FIELDS, *_name_fields(TextGeneration), "guided_json", "image", "options"}
)
"""The fields of a run that are used, or refused with a reason of their own."""

_FOR_THE_ACCOUNT = frozenset(
    {
        "metadata",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
    }
)
"""Fields of the OpenAI protocols that do not concern the text."""

_ASK_FOR_NOTHING: Mapping[str, tuple[object, ...]] = {
    "audio": (None,),
    "background": (None, False),
    "best_of": (None, 1),
    "echo": (None, False),
    "function_call": (None, "auto", "none"),
    "include": (None, []),
    "logit_bias": (None, {}),
    "logprobs": (None, False),
    "modalities": (None, ["text"]),
    "prediction": (None,),
    "previous_response_id": (None,),
    "reasoning": (None, {}),
    "reasoning_effort": (None, "none"),
    "skip_special_tokens": (None, True),
    "suffix": (None, ""),
    "top_logprobs": (None, 0),
    "truncation": (None, "disabled"),
    "verbosity": (None, "medium"),
    "web_search_options": (None,),
}
"""The values that ask for nothing, of fields that the local text model does not support."""


@frozen
class GenerationInput:
    """What a request asks for, and the form of its response."""

    model: str
    """The model in the request."""
    request: GenerationRequest
    dialect: Dialect
    stream: StreamDialect | None = None
    """The form of the events, if the response is a stream."""
    tools: ToolChoice | None = None
    """The tools, if one may be called."""
    task: str = "Text Generation"

    def with_call(self, tool: ToolDescription) -> "GenerationInput":
        """Return what to generate instead, if a tool is called: its arguments."""
        message = self.tools.message if self.tools else ""
        dialect: StreamDialect
        if isinstance(self.dialect, ChatDialect):
            dialect = ChatToolDialect(self.dialect, tool.name)
        else:
            dialect = NativeToolDialect(tool.name)
        request = ask_for_arguments(self.request, tool, message)
        return GenerationInput(self.model, request, dialect, dialect if self.stream else None)


def parse_run(model: ServedModel, body: JsonBody) -> GenerationInput:
    """Read the body of a run.

    Raises:
        ApiError: It breaks a rule, or needs a capability that the local model lacks.
    """
    if model.speaks == "responses" and body.get("input") is not None:
        return parse_responses(model, body)
    _check_names(body, _FIELDS, model.abilities)
    request = _read_request(body, model.abilities)
    if (body.get("stream_options") or {}).get("include_usage") is False:
        rule = "must be true or omitted: the stream of a run ends with the usage"
        raise errors.bad_input(f"stream_options.include_usage {rule}")
    dialect: StreamDialect
    if model.speaks == "native":
        dialect = NativeDialect(decodes_json=request.schema is not None)
    else:
        dialect = ChatDialect(model.name, checks_json=request.schema is not None)
    return _build_input(model, body, request, dialect)


def parse_chat(model: ServedModel, body: JsonBody) -> GenerationInput:
    """Read the body of a chat completion. Raises like `parse_run`."""
    _check_names(body, _FIELDS - {"prompt"} | {"model"} | _FOR_THE_ACCOUNT, model.abilities)
    if body.get("messages") is None:
        raise missing_fields("messages")
    request = _read_request({**body, "response_format": _unwrap_format(body)}, model.abilities)
    dialect = ChatDialect(
        model.name,
        includes_usage=_includes_usage(body),
        checks_json=request.schema is not None,
    )
    return _build_input(model, body, request, dialect)


def parse_completion(model: ServedModel, body: JsonBody) -> GenerationInput:
    """Read the body of a completion, whose prompt the model continues. Raises like `parse_run`."""
    names = frozenset({*_PROMPT_FIELDS, "model", "options"}) | _FOR_THE_ACCOUNT
    abilities = Abilities(is_remote=model.abilities.is_remote)
    _check_names(body, names, Abilities())
    if body.get("raw") is False:
        raise errors.bad_input("raw must be true or omitted: a completion continues its prompt")
    match body.get("prompt"):
        case [str(prompt)]:
            body = {**body, "prompt": prompt}
        case list():
            raise errors.bad_input("prompt must be one text")
    if body.get("prompt") is None:
        raise missing_fields("prompt")
    request = _read_request({**body, "raw": True}, abilities)
    dialect = CompletionDialect(model.name, includes_usage=_includes_usage(body))
    return _build_input(model, body, request, dialect)


_RESPONSES = frozenset(
    {
        "input",
        "instructions",
        "max_output_tokens",
        "model",
        "options",
        "parallel_tool_calls",
        "stream",
        "temperature",
        "text",
        "tools",
        "top_p",
    }
)


def parse_responses(model: ServedModel, body: JsonBody) -> GenerationInput:
    """Read the body of OpenAI's Responses. Raises like `parse_run`."""
    effort = _read_effort(body, model.abilities)
    fields = {name: value for name, value in body.items() if name != "reasoning" or not effort}
    _check_names(fields, _RESPONSES | _FOR_THE_ACCOUNT, Abilities())
    if body.get("input") is None:
        raise missing_fields("input")
    if body.get("stream"):
        raise errors.bad_input("stream must be false: the service does not stream Responses")
    if body.get("tools"):
        raise errors.not_supported("tools are not supported in Responses: use chat completions")
    instructions = body.get("instructions")
    if instructions is not None and not isinstance(instructions, str):
        raise errors.bad_input(f"instructions must be a string, got {shorten(instructions)}")
    if not isinstance(body.get("parallel_tool_calls") or False, bool):
        value = shorten(body["parallel_tool_calls"])
        raise errors.bad_input(f"parallel_tool_calls must be true or false, got {value}")
    first = [] if instructions is None else [{"role": "system", "content": instructions}]
    names = ("temperature", "top_p")
    options = {name: body[name] for name in names if body.get(name) is not None} | effort
    limit = body.get("max_output_tokens")
    if limit is not None:
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
            rule = "must be an integer of at least 1"
            raise errors.bad_input(f"max_output_tokens {rule}, got {shorten(limit)}")
        options["max_completion_tokens"] = limit
    messages = [*first, *_read_items(body["input"])]
    response_format = _read_text_format(body.get("text"))
    fields = {**options, "messages": messages, "response_format": response_format}
    request = _read_request(fields, evolve(model.abilities, calls_tools=False))
    return GenerationInput(model.name, request, ResponsesDialect(model.name))


def _read_effort(body: JsonBody, abilities: Abilities) -> dict[str, str]:
    """Return the effort of reasoning under its name in chat completions, for another server."""
    match body.get("reasoning"):
        case {"effort": str(effort), **rest} if abilities.is_remote and not rest:
            return {"reasoning_effort": effort}
    return {}


def _read_items(value: Any) -> list[Any]:
    """Return the messages in the `input` of Responses."""
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if not isinstance(value, list):
        raise errors.bad_input(f"input must be a text or a list of messages, got {shorten(value)}")
    check_input(value)
    messages = []
    for index, item in enumerate(value):
        match item:
            case {"type": str(kind)} if kind != "message":
                raise errors.bad_input(f"input[{index}] must be a message, got {shorten(item)}")
            case {"role": str(role), "content": list(parts)}:
                place = f"input[{index}].content"
                texts = [_read_part(f"{place}[{i}]", part) for i, part in enumerate(parts)]
                messages.append({"role": role, "content": texts})
            case {"role": str(), "content": str()}:
                messages.append({"role": item["role"], "content": item["content"]})
            case _:
                raise errors.bad_input(f"input[{index}] must be a message, got {shorten(item)}")
    return messages


def _read_part(path: str, part: Any) -> Any:
    match part:
        case {"type": "input_text" | "output_text", "text": str(text)}:
            return {"type": "text", "text": text}
        case {"type": str(kind)} if kind != "text":
            raise no_text(path)
    return part


def _read_text_format(text: Any) -> Any:
    if isinstance(text, dict) and text.get("verbosity") in (None, "medium"):
        text = {name: value for name, value in text.items() if name != "verbosity"}
    match text:
        case None:
            return None
        case {"format": None | {"type": "text"}, **rest} if not rest:
            return None
        case {"format": {"type": "json_object"} as value, **rest} if not rest:
            return value
        case {"format": {"type": "json_schema", "schema": dict(schema), **labels}, **rest} if (
            not rest and labels.keys() <= _LABELS
        ):
            return {"type": "json_schema", "json_schema": schema}
        case {**rest} if not rest:
            return None
    raise errors.bad_input(f"text must be a format of the answer, got {shorten(text)}")


_LABELS = {"name", "description", "strict"}
"""The keys beside a schema in OpenAI's protocols. Here, an answer always follows its schema."""


# Fields


def _check_names(body: JsonBody, used: Collection[str], abilities: Abilities) -> None:
    """Refuse the fields that are not used, unless their values ask for nothing."""
    for name, value in body.items():
        if abilities.is_remote and name in PASSED_ON:
            continue
        if name in _ASK_FOR_NOTHING:
            if value not in _ASK_FOR_NOTHING[name]:
                problem = "must be omitted: the local text model does not support it"
                raise errors.bad_input(f"{name} {problem}, got {shorten(value)}")
        elif name not in used:
            raise unknown_field(name)


def _read_request(body: JsonBody, abilities: Abilities) -> GenerationRequest:
    chat = body.get("messages") is not None
    if not chat and body.get("prompt") is None:
        raise missing_fields("prompt", "messages")
    if chat and body.get("prompt") is not None:
        raise errors.bad_input("prompt must be omitted if there are messages")
    if chat:
        body = {**body, "messages": accept_empty_content(body["messages"])}
    if body.get("functions"):
        raise errors.not_supported("the local server runs no code: omit functions")
    check_fields(TextGeneration if chat else Prompt, body)
    if not chat:
        # A prompt can have tools, too, whose rules are those of a conversation.
        check_fields(TextGeneration, {**body, "messages": [{"role": "user", "content": "x"}]})
    check_conversation(body, abilities)
    _check_options(body, abilities)
    if not chat:
        body = {**body, "messages": [{"role": "user", "content": body["prompt"]}]}
    return GenerationRequest(
        prompt=_build_prompt(body, abilities),
        max_tokens=_read_max_tokens(body),
        seed=None if body.get("seed") is None else int(body["seed"]),
        stop=_read_stop(body),
        sampling=_read_sampling(body, abilities),
        schema=_read_schema(body),
        extra=read_extra(body, abilities) if abilities.is_remote else {},
    )


def _build_prompt(body: JsonBody, abilities: Abilities) -> str | Sequence[Mapping[str, Any]]:
    raw = bool(body.get("raw"))
    if not raw and (abilities.is_remote or (abilities.reads_images and has_image(body))):
        return build_messages(body, abilities)
    if body.get("image") is not None:
        raise no_text("image")
    messages = render_messages(body["messages"])
    if raw:
        return "\n".join(message["content"] for message in messages)
    if messages[0]["role"] != "system":
        return [{"role": "system", "content": _SYSTEM}, *messages]
    return messages


def _check_options(body: JsonBody, abilities: Abilities) -> None:
    problem = "must be omitted: the local text model does not support it"
    options: dict[str, Any] = body.get("chat_template_kwargs") or {}
    for name, value in options.items():
        if value not in (None, False) and not abilities.is_remote:
            raise errors.bad_input(f"chat_template_kwargs.{name} {problem}")
    if body.get("stream_options") and not body.get("stream"):
        raise errors.bad_input("stream_options must be omitted without a stream")
    shape = {"include_usage": None, "include_obfuscation": (None, False)}
    check_shape("stream_options", body.get("stream_options"), shape)


def _includes_usage(body: JsonBody) -> bool:
    options = body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def _build_input(
    model: ServedModel, body: JsonBody, request: GenerationRequest, dialect: StreamDialect
) -> GenerationInput:
    messages = request.prompt
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    tools = None if model.abilities.calls_tools else read_tool_choice(body, messages)
    if not body.get("stream"):
        return GenerationInput(model.name, request, dialect, None, tools)
    if request.schema is not None:
        raise errors.bad_input("JSON Mode is not supported with streaming")
    return GenerationInput(model.name, request, dialect, dialect, tools)


def _read_max_tokens(body: JsonBody) -> int:
    """Return the lower one of the two limits, if there are both."""
    limits = {
        name: body[name]
        for name in ("max_tokens", "max_completion_tokens")
        if body.get(name) is not None
    }
    for name, limit in limits.items():
        if limit < 1:
            raise errors.bad_input(f"{name} must be at least 1, got {limit}")
    # A generator may know no larger numbers; no context window is as long.
    return int(min(*limits.values(), _LARGEST_LIMIT)) if limits else _MAX_TOKENS


def _read_stop(body: JsonBody) -> tuple[str, ...]:
    stop = body.get("stop")
    if stop is None:
        return ()
    texts = (stop,) if isinstance(stop, str) else tuple(stop)
    if not all(texts):
        raise errors.bad_input("stop must not contain an empty text")
    return texts


def _read_sampling(body: JsonBody, abilities: Abilities) -> dict[str, float]:
    if body.get("repetition_penalty") == 0:
        raise errors.bad_input("repetition_penalty must be above 0 for this model, got 0")
    values = {
        llama_name: body[name]
        for name, llama_name in _SAMPLING.items()
        if body.get(name) is not None
    }
    if "top_k" in values:
        values["top_k"] = int(values["top_k"])
    # Another server's models have defaults of their own.
    return values if abilities.is_remote else {"temperature": _TEMPERATURE} | values


def _read_schema(body: JsonBody) -> Mapping[str, Any] | None:
    """Return the JSON schema of the answer; `None` for free text."""
    schema = body.get("guided_json")
    if schema is not None and body.get("response_format") is not None:
        raise errors.bad_input("guided_json must be omitted if there is a response_format")
    if schema is not None and not isinstance(schema, dict):
        raise errors.bad_input(f"guided_json must be a JSON schema, got {shorten(schema)}")
    return schema if schema is not None else _read_response_format(body.get("response_format"))


def _read_response_format(value: Any) -> Mapping[str, Any] | None:
    match value:
        case None:
            return None
        case {"type": "json_object", **rest} if not any(rest.values()):
            return {"type": "object"}
        case {"json_schema": _, **rest} if rest not in ({}, {"type": "json_schema"}):
            pass
        case {"json_schema": {"schema": dict(), **rest}} if "type" not in rest:
            raise errors.bad_input(
                "response_format.json_schema must be the schema itself, "
                "not an object with the keys name, schema or strict around it"
            )
        case {"json_schema": dict() as schema}:
            return schema
    raise errors.bad_input(
        "response_format must be json_object, or json_schema with a schema, and nothing else, got "
        f"{shorten(value)}"
    )


def _unwrap_format(body: JsonBody) -> Any:
    """Return the format of a chat completion as one of a run: the schema without its wrapper."""
    match body.get("response_format"):
        case {"type": "text"}:
            return None
        case {"type": "json_schema", "json_schema": {"schema": dict(schema), **rest}} if (
            rest.keys() <= _LABELS
        ):
            return {"type": "json_schema", "json_schema": schema}
        case value:
            return value
