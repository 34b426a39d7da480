"""Tool calls with a model that cannot decide on them: which tool to call, and how to ask for it.

MiniLM compares the last message of the user with the tools; the text model writes the arguments
under the tool's JSON schema. Arguments are often wrong; the docs say how often.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import evolve, frozen

from cfai.local import errors
from cfai.local.backends.roles import GenerationRequest, TextEmbedder
from cfai.local.requests import JsonBody
from cfai.tasks.task import shorten

_SIMILARITY = 0.2
"""The least cosine of a message and the tool for it. Measured with the five tools and 28 messages
in `tests/local/text_quality.py`: 0.23 to 0.72 if one of them fits, otherwise 0.11 to 0.18, and once
0.31."""

_MAX_TEXT = 200
"""In characters: what a text among the arguments is limited to, if its schema has no limit. A small
model may not find the end of a text."""


@frozen
class ToolDescription:
    """A tool that may be called."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    """The JSON schema of the arguments."""


@frozen
class ToolChoice:
    """The tools of a request, and whether one must be called."""

    tools: Sequence[ToolDescription]
    forced: bool
    """Whether a tool must be called."""
    message: str
    """The last message of the user."""

    def choose(self, embedder: TextEmbedder) -> ToolDescription | None:
        """Return the tool that fits the message best; `None` if none is needed and none fits."""
        if self.forced and len(self.tools) == 1:
            return self.tools[0]
        texts = [f"{tool.name.replace('_', ' ')}: {tool.description}" for tool in self.tools]
        vectors = embedder.embed(
            [self.message, *texts], dimensions=384, pooling="mean", is_cancelled=lambda: False
        )
        cosines = (vectors[1:] @ vectors[0]).tolist()
        best = max(range(len(cosines)), key=cosines.__getitem__)
        return self.tools[best] if self.forced or cosines[best] >= _SIMILARITY else None


def read_tool_choice(body: JsonBody, messages: Sequence[Mapping[str, str]]) -> ToolChoice | None:
    """Return what a request with checked fields says about tools; `None` if none can be called.

    After the result of a tool, only a forced choice calls another one.

    Raises:
        ApiError: The choice names no tool of the request.
    """
    tools = [_read_tool(tool) for tool in body.get("tools") or ()]
    choice = body.get("tool_choice") or "auto"
    if choice == "none" or (not tools and choice == "auto"):
        return None
    if not tools:
        raise errors.bad_input(f"tool_choice needs tools, got {shorten(choice)}")
    if isinstance(choice, dict):
        function = choice.get("function", choice)
        name = function.get("name") if isinstance(function, dict) else None
        tools = [tool for tool in tools if tool.name == name]
        if not tools:
            raise errors.bad_input(f"tool_choice must name one of the tools, got {shorten(choice)}")
    forced = choice != "auto"
    if not forced and messages[-1]["role"] == "tool":
        return None
    texts = [message["content"] for message in messages if message["role"] == "user"]
    return ToolChoice(tools, forced, texts[-1] if texts else messages[-1]["content"])


def ask_for_arguments(
    request: GenerationRequest, tool: ToolDescription, message: str
) -> GenerationRequest:
    """Return the request for the arguments of a call."""
    fields = tool.parameters["properties"]
    names = ", ".join(f"{name} ({_describe(schema)})" for name, schema in fields.items())
    arguments = f" Write its arguments as JSON: {names}. Copy them from the user's message."
    system = f"You call the function {tool.name}: {tool.description}.{arguments if names else ''}"
    prompt = [{"role": "system", "content": system}, {"role": "user", "content": message}]
    return evolve(request, prompt=prompt, schema=_limit_texts(tool.parameters), stop=())


def _read_tool(tool: Mapping[str, Any]) -> ToolDescription:
    description = tool.get("function", tool)
    parameters = description.get("parameters") or {}
    if not isinstance(parameters.get("type"), str):
        # Only the properties, as some models allow.
        parameters = {"type": "object", "properties": parameters}
    properties = parameters.get("properties")
    if parameters["type"] != "object" or not isinstance(properties or {}, dict):
        raise errors.bad_input(
            f"tools: the parameters of {shorten(description['name'])} must be the schema of an "
            "object"
        )
    parameters = {"additionalProperties": False, **parameters, "properties": properties or {}}
    return ToolDescription(description["name"], description.get("description") or "", parameters)


def _describe(schema: Any) -> str:
    if not isinstance(schema, dict):
        return "any"
    if isinstance(schema.get("enum"), list):
        return " or ".join(str(value) for value in schema["enum"])
    return str(schema.get("description") or schema.get("type") or "any")


def _limit_texts(parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    properties = {
        name: {**schema, "maxLength": _MAX_TEXT}
        if isinstance(schema, dict)
        and schema.keys() <= {"type", "description", "title"}
        and schema.get("type") == "string"
        else schema
        for name, schema in parameters["properties"].items()
    }
    return {**parameters, "properties": properties}
