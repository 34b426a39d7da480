"""The routes below `/ai/v1`, which follow OpenAI's protocols: their results have no envelope.

Source: Cloudflare docs, Workers AI, "OpenAI compatible API endpoints"; the forms of the documents
from platform.openai.com/docs/api-reference.
"""

from base64 import b64encode
from typing import Any

from aiohttp import web
from attrs import frozen

from cfai.local import backends, errors
from cfai.local.backends import wordpiece
from cfai.local.backends.roles import IsCancelled
from cfai.local.exchange import common_headers, json_response
from cfai.local.handlers import (
    ModelRunner,
    encode_json,
    inputs,
    read_model_name,
)
from cfai.local.models import (
    ServedModel,
    author_of,
    find_chat_model,
    find_model,
    find_retirement,
    list_models,
)
from cfai.local.requests import (
    ApiRequest,
    JsonBody,
    check_names,
    missing_fields,
    rejects_if_busy,
)
from cfai.tasks.task import shorten

_GENERATION = "Text Generation"
_EMBEDDINGS = "Text Embeddings"


@frozen
class OpenAIRoutes:
    """The routes of OpenAI's protocols."""

    runs: ModelRunner

    async def chat(self, request: ApiRequest) -> web.StreamResponse:
        """`POST v1/chat/completions`."""
        body = await request.read_json()
        name = read_model_name(request, body)
        model = _check_task(self.runs.find_model(name, find_chat_model), _GENERATION)
        return await self.runs.generate(
            request, inputs.parse_chat(model, body), body, in_envelope=False
        )

    async def complete(self, request: ApiRequest) -> web.StreamResponse:
        """`POST v1/completions`."""
        body = await request.read_json()
        model = _check_task(self.runs.find_model(read_model_name(request, body)), _GENERATION)
        return await self.runs.generate(
            request, inputs.parse_completion(model, body), body, in_envelope=False
        )

    async def respond(self, request: ApiRequest) -> web.StreamResponse:
        """`POST v1/responses`. Of Workers AI's models, only gpt-oss has it.

        Source: the Workers AI team in cloudflare/cloudflare-docs#32116.
        """
        body = await request.read_json()
        model = _check_task(self.runs.find_model(read_model_name(request, body)), _GENERATION)
        if model.speaks != "responses":
            raise errors.bad_input(f"{model.name} does not support Responses, only gpt-oss does")
        return await self.runs.generate(
            request, inputs.parse_responses(model, body), body, in_envelope=False
        )

    async def embed(self, request: ApiRequest) -> web.StreamResponse:
        """`POST v1/embeddings`: the vectors as numbers, or as base64 of float32."""
        body = await request.read_json()
        name = read_model_name(request, body)
        model = _check_task(self.runs.find_model(name, task=_EMBEDDINGS), _EMBEDDINGS)
        remote = self.runs.find_upstream(model)
        dimensions = None if remote is not None else model.dimensions
        texts, in_base64 = _read_embedding(model, body, dimensions)

        def work(is_cancelled: IsCancelled) -> tuple[bytes, str]:
            backend = remote or backends.embedder()
            vectors = backend.embed(
                texts, dimensions=model.dimensions, pooling="mean", is_cancelled=is_cancelled
            )
            tokens = sum(len(wordpiece.encode(text)) for text in texts)
            rows = [
                b64encode(vector.astype("<f4").tobytes()).decode() if in_base64 else vector
                for vector in vectors
            ]
            return encode_json(_embedding_list(model, rows, tokens)), backend.name

        pool = self.runs.others if remote is None else self.runs.remotes
        payload, backend = await pool.run(work, only_if_free=rejects_if_busy(body))
        return json_response(200, payload, request.recorder.start_response(backend))

    async def list_models(self, request: ApiRequest) -> web.Response:
        """`GET v1/models`."""
        rows = [_model_row(name) for name in list_models()]
        return json_response(200, {"object": "list", "data": rows}, common_headers())

    async def get_model(self, request: ApiRequest) -> web.Response:
        """`GET v1/models/{model}`."""
        name = request.name
        if find_model(name) is None or find_retirement(name) is not None:
            raise errors.unknown_model(name)
        return json_response(200, _model_row(name), common_headers())

    async def refuse_messages(self, request: ApiRequest) -> web.StreamResponse:
        """`POST v1/messages`: no model of Workers AI takes Anthropic's protocol."""
        name = read_model_name(request, await request.read_json())
        raise errors.bad_input(f"{name} does not support Messages: use /ai/v1/chat/completions")


def _check_task(model: ServedModel, task: str) -> ServedModel:
    if model.task != task:
        raise errors.bad_input(f"{model.name} is a model for {model.task}, not for {task}")
    return model


_EMBEDDING_FIELDS = ("model", "input", "encoding_format", "dimensions", "user")


def _read_embedding(
    model: ServedModel, body: JsonBody, vector_length: int | None
) -> tuple[list[str], bool]:
    """Return the texts, and whether the vectors are sent as base64."""
    check_names(body, *_EMBEDDING_FIELDS)
    value = body.get("input")
    if value is None:
        raise missing_fields("input")
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
        raise errors.bad_input(f"input must be a text or a list of texts, got {shorten(value)}")
    if not all(texts):
        raise errors.bad_input("input must not contain an empty text")
    limit = model.texts_per_request
    if limit is not None and len(texts) > limit:
        raise errors.bad_input(f"input must have at most {limit} items, got {len(texts)}")
    dimensions = body.get("dimensions")
    if dimensions is not None and dimensions != vector_length:
        length = "omitted" if vector_length is None else vector_length
        rule = f"must be {length} for {model.name}"
        raise errors.bad_input(f"dimensions {rule}, got {shorten(dimensions)}")
    encoding = body.get("encoding_format")
    if encoding not in (None, "float", "base64"):
        rule = "must be float or base64"
        raise errors.bad_input(f"encoding_format {rule}, got {shorten(encoding)}")
    return texts, encoding == "base64"


def _embedding_list(model: ServedModel, rows: list[Any], tokens: int) -> dict[str, Any]:
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": row}
            for index, row in enumerate(rows)
        ],
        "model": model.name,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _model_row(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": author_of(name)}
