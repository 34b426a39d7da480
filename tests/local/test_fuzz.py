"""Seeded random requests to every route: none of them is answered with an internal error."""

import asyncio
import copy
import gc
import gzip
import json
import logging
import os
import random
import socket
import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import pytest
from attrs import frozen
from yarl import URL

from cfai.profiles import TASKS

from .conftest import LLAMA, Local, running

ROUNDS = int(os.environ.get("FUZZ_ROUNDS", "40"))
"""Requests per kind; a longer search sets it higher."""

SEED = int(os.environ.get("FUZZ_SEED", "1"))

BERT = "@cf/huggingface/distilbert-sst-2-int8"
SUMMARIZER = next(model for model, task in TASKS.items() if task == "Summarization")
RERANKER = "@cf/baai/bge-reranker-base"
BGE = "@cf/baai/bge-small-en-v1.5"
M3 = "@cf/baai/bge-m3"
QWEN = "@cf/qwen/qwen3-embedding-0.6b"
GLM = "@cf/zai-org/glm-4.7-flash"
LORA = "@cf/mistral/mistral-7b-instruct-v0.2-lora"

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
    {"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": {"a": 1}}]},
    {"role": "tool", "content": "1", "tool_call_id": "x", "name": "f"},
]
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA}}
SAMPLING = {
    "temperature": 0.5,
    "top_p": 0.5,
    "top_k": 5,
    "seed": 1,
    "repetition_penalty": 1.1,
    "frequency_penalty": 0.1,
    "presence_penalty": 0.1,
    "stop": ["a"],
    "lora": None,
    "raw": False,
    "n": 1,
    "max_completion_tokens": 1,
    "chat_template_kwargs": {"enable_thinking": False},
    "stream_options": {"include_usage": True},
    "reasoning_effort": None,
    "logprobs": False,
    "top_logprobs": 0,
    "options": {"rejectIfBusy": False},
}


@frozen
class Request:
    """A request as it is sent, so that any part of it can be wrong."""

    path: str
    body: bytes = b""
    method: str = "POST"
    headers: Mapping[str, str] = MappingProxyType({})


def encode(document: Any) -> bytes:
    # The standard library also writes NaN, halves of surrogate pairs and integers of any size.
    text = json.dumps(document)
    for mark, deep in DEEP.items():
        text = text.replace(json.dumps(mark), deep)
    return text.encode()


DEEP = {
    f"<{depth} deep {opening}>": opening * depth + "1" + closing * depth
    for depth in (50, 300, 1000, 1023, 5000)
    for opening, closing in (("[", "]"), ('{"a":', "}"))
}
"""What stands for values that are nested too deeply for the standard library."""


def form(*fields: tuple[bytes, bytes]) -> bytes:
    parts = [
        b"--b\r\nContent-Disposition: form-data; " + header + b"\r\n\r\n" + content + b"\r\n"
        for header, content in fields
    ]
    return b"".join(parts) + b"--b--\r\n"


FORM = {"Content-Type": "multipart/form-data; boundary=b"}

DOCUMENTS: list[tuple[str, dict[str, Any]]] = [
    (f"run/{LLAMA}", {"prompt": "Hi", "max_tokens": 1}),
    (f"run/{LLAMA}", {"prompt": "Hi", "max_tokens": 1, **SAMPLING}),
    (f"run/{LLAMA}", {"messages": CHAT, "max_tokens": 1, **SAMPLING}),
    (f"run/{LLAMA}", {"messages": CHAT, "max_tokens": 1, "tools": [TOOL], "tool_choice": "auto"}),
    (f"run/{LLAMA}", {"messages": CHAT, "max_tokens": 1, "stream": True}),
    (
        f"run/{LLAMA}",
        {
            "prompt": "Hi",
            "max_tokens": 9,
            "response_format": {"type": "json_schema", "json_schema": SCHEMA},
        },
    ),
    (f"run/{LLAMA}", {"prompt": "Hi", "max_tokens": 9, "guided_json": SCHEMA}),
    (f"run/{BERT}", {"text": "good"}),
    (f"run/{SUMMARIZER}", {"input_text": "A b c. D e f.", "max_length": 9}),
    (f"run/{RERANKER}", {"query": "a", "contexts": [{"text": "b"}, {"text": "c"}], "top_k": 1}),
    (f"run/{BGE}", {"text": ["a", "b"], "pooling": "cls"}),
    (f"run/{M3}", {"query": "a", "contexts": [{"text": "b"}], "truncate_inputs": True}),
    (f"run/{QWEN}", {"queries": ["a"], "documents": ["b"], "instruction": "c"}),
    (f"run/{LORA}", {"prompt": "a", "lora": "x", "max_tokens": 1}),
    ("run/@cf/cloudflare/clef", {"state": "x", "questions": {}}),
    ("run", {"model": BGE, "input": {"text": ["a"]}}),
    (
        "v1/chat/completions",
        {"model": LLAMA, "messages": CHAT, "max_tokens": 1, **SAMPLING, "user": "u"},
    ),
    (
        "v1/chat/completions",
        {"model": GLM, "messages": CHAT[:2], "max_tokens": 9, "tools": [TOOL], "stream": True},
    ),
    (
        "v1/chat/completions",
        {
            "model": LLAMA,
            "messages": CHAT[:2],
            "max_tokens": 9,
            "tools": [TOOL],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
            "response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}},
        },
    ),
    ("v1/completions", {"model": LLAMA, "prompt": ["Hi"], "max_tokens": 1, "echo": False}),
    (
        "v1/embeddings",
        {"model": BGE, "input": ["a"], "encoding_format": "base64", "dimensions": 384},
    ),
    (
        "v1/responses",
        {
            "model": "@cf/openai/gpt-oss-20b",
            "input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}],
            "instructions": "Be brief.",
            "max_output_tokens": 1,
            "text": {"format": {"type": "json_schema", "schema": SCHEMA}},
        },
    ),
    ("v1/messages", {"model": LLAMA, "messages": CHAT}),
    (
        f"run/{BGE}?queueRequest=true",
        {"requests": [{"text": "a", "external_reference": "r"}]},
    ),
    (f"run/{BGE}?queueRequest=true", {"request_id": "x"}),
    ("finetunes", {"model": LORA, "name": "n", "description": "d", "public": True}),
]

FORMS = [
    ("tomarkdown", form((b'name="files"; filename="a.csv"', b"a,b\n1,2\n"))),
    (
        "tomarkdown",
        form(
            (b'name="files"; filename="a.xml"\r\nContent-Type: text/xml', b"<a/>"),
            (b'name="conversionOptions"', b'{"output":{"format":"text"},"pdf":{"metadata":true}}'),
        ),
    ),
    (
        "finetunes/x/finetune-assets",
        form((b'name="file_name"', b"adapter_config.json"), (b'name="file"', b'{"r":1}')),
    ),
]

QUERIES = [
    "models/search?search=a&task=b&author=c&source=1&page=1&per_page=5&hide_experimental=true",
    f"models/schema?model={LLAMA}",
    "finetunes",
    "finetunes/public?limit=1&offset=0&orderBy=name",
    "tasks/search",
    "authors/search",
    "tomarkdown/supported",
    "v1/models",
]


ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 0.5, -0.0, 1e308, 1e-308, 2**31, 2**53 + 1, 2**63, 2**64,
    10**30, float("nan"), "", " ", "x", "\x00", "\ud800", "\udc00\ud800", "a\ud83d", "\ufeff",
    "é" * 300, "x" * 5000, "1", "true", "null", "auto", "required", "none", "json_schema", "user",
    "text", "../..", "%00", "data:image/png;base64,", "https://example.org/a.png", "*", "(", "\\",
    [], {}, [None], [""], [[]], [{}], [1], ["a"], [True], ["\ud800"], {"": ""}, {"a": None},
    {"type": "text"}, {"type": "text", "text": None}, {"type": "image_url"}, {"text": "a"},
    {"type": "object"}, {"type": "json_object"}, {"$ref": "#"}, {"$ref": "#/a"},
    {"type": ["string"]}, {"pattern": "("}, {"allOf": 1}, {"properties": {"a": 1}}, {"items": 5},
    {"\ud800": 1}, {"name": "f"}, {"function": {"name": "f"}}, [0] * 200, ["x"] * 101,
    *DEEP,
)  # fmt: skip

NAMES = [
    *SAMPLING,
    *("prompt", "messages", "text", "query", "contexts", "tools", "tool_choice", "functions"),
    *("image", "response_format", "guided_json", "stream", "input_text", "requests", "request_id"),
    *(
        "queries",
        "documents",
        "model",
        "input",
        "public",
        "name",
        "description",
        "pooling",
        "\ud800",
    ),
]

HEADERS: list[tuple[str, tuple[str, ...]]] = [
    ("Content-Type", ("", "x", "text/plain; charset=nonsense", "multipart/form-data", 'a/b;c="')),
    ("Content-Type", ("application/json; charset=utf-16", "multipart/form-data; boundary=")),
    ("Content-Type", ("multipart/form-data; boundary=" + "x" * 80, "multipart/mixed; boundary=b")),
    ("Content-Encoding", ("gzip", "deflate", "br", "zstd", "nonsense", "gzip, gzip")),
    ("Authorization", ("", "Bearer", "Bearer é", "Bearer \udcff", "Basic x", "bearer  a  b")),
    ("X-Auth-Key", ("é", "x")),
    ("Origin", ("null", "http://[", "http://127.0.0.1:99999", "é")),
    ("Host", ("", "[", "[::1", "127.0.0.1:x", "localhost:99999999", "a b", "é")),
    ("Accept", ("", "text/event-stream")),
    ("Range", ("bytes=9-1",)),
    ("If-Modified-Since", ("x",)),
    ("Expect", ("100-continue", "x")),
    ("x-cfai-fault", ("", "capacity,retry_after=1", "error,status=1", "malformed,events=1", "é")),
    ("Cookie", ("a", "=;=;\x7f")),
    ("cf-aig-gateway-id", ("", "é")),
]

PATHS = [
    *("", "/", "run", "run/", "run//", "run/@cf", "run/@cf/", "run/%", "run/%ff", "run/%00"),
    *("run/..", "run/@cf/%ED%A0%80", "run/@cf/a?b", "finetunes/%ff/finetune-assets", "finetunes//"),
    *("finetunes/%00/finetune-assets", "models/schema", "models/search?%"),
    *("models/search?page=0", "models/search?page=%ff", "models/search?page=" + "9" * 30, "v1/%"),
    *("models/search?source=x&source=y", "v1/chat/completions", "v1/embeddings", "v1/completions"),
    *("finetunes/public?orderBy=%00", "finetunes/public?limit=" + "9" * 19, "x" * 3000),
]  # fmt: skip


class Fuzzer:
    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def documents(self) -> Request:
        path, document = self._random.choice(DOCUMENTS)
        document = json.loads(json.dumps(document))
        for _ in range(self._random.choice((1, 1, 1, 2, 3))):
            self._change(document)
        return Request(path, encode(document), headers={"Content-Type": "application/json"})

    def raw_bodies(self) -> Request:
        path, document = self._random.choice(DOCUMENTS)
        body = encode(document)
        if self._random.random() < 0.3:
            odd = (encode(value) for value in ODD)
            return Request(path, self._random.choice([*odd, b"[" * 5000, b"\xff", b'{"a":1}x']))
        return Request(path, self._damage(body))

    def forms(self) -> Request:
        path, body = self._random.choice(FORMS)
        headers = dict(FORM)
        if self._random.random() < 0.1:
            headers["Content-Type"] = "application/json"
        return Request(path, self._damage(body), headers=headers)

    def headers(self) -> Request:
        path, document = self._random.choice(DOCUMENTS)
        body = encode(document)
        if self._random.random() < 0.2:
            path, body = self._random.choice(FORMS)
        name, values = self._random.choice(HEADERS)
        headers = {name: self._random.choice(values)}
        if headers == {"Content-Encoding": "gzip"} and self._random.random() < 0.7:
            body = self._damage(gzip.compress(body))
        return Request(path, body, headers=headers)

    def paths(self) -> Request:
        method = self._random.choice(("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"))
        if self._random.random() < 0.4:
            path, query = self._random.choice(QUERIES).partition("?")[::2]
            pairs = [pair.partition("=")[0] for pair in query.split("&")]
            odd = (
                "",
                "é",
                "%00",
                "%ff",
                "%ED%A0%80",
                "-1",
                "1e9",
                "9" * 40,
                "true",
                "*",
                "[",
                "x" * 99,
            )
            query = "&".join(f"{name}={self._random.choice(odd)}" for name in pairs)
            return Request(f"{path}?{query}", method="GET")
        known = [path for path, _ in (*DOCUMENTS, *FORMS)]
        return Request(self._random.choice([*PATHS, *known, *QUERIES]), b"{}", method)

    def _change(self, document: Any) -> None:
        """Replace, remove or add one value anywhere in a document."""
        places = list(self._places(document))
        if not places:
            return
        container, key = self._random.choice(places)
        match self._random.randrange(6):
            case 0 if isinstance(container, dict):
                container[self._random.choice(NAMES)] = copy.deepcopy(self._random.choice(ODD))
            case 1 if key not in (
                "max_tokens",
                "max_output_tokens",
            ):  # By default, the model writes for seconds.
                del container[key]
            case 2 if isinstance(container, list):
                container.append(container[key])
            case _:
                container[key] = copy.deepcopy(self._random.choice(ODD))

    def _places(self, value: Any) -> Any:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        for key in keys:
            yield value, key
            if isinstance(value[key], dict | list):
                yield from self._places(value[key])

    def _damage(self, body: bytes) -> bytes:
        data = bytearray(body)
        for _ in range(self._random.randrange(1, 4)):
            start = self._random.randrange(len(data) + 1)
            end = min(len(data), start + self._random.choice((0, 1, 1, 4, 30)))
            match self._random.randrange(4):
                case 0:
                    del data[start:end]
                case 1:
                    data[start:end] = self._random.randbytes(end - start)
                case 2:
                    data[start:start] = data[start:end] * self._random.choice((1, 2, 50))
                case _:
                    del data[start:]
        return bytes(data)


KINDS: dict[str, Callable[[Fuzzer], Request]] = {
    "documents": Fuzzer.documents,
    "raw bodies": Fuzzer.raw_bodies,
    "forms": Fuzzer.forms,
    "headers": Fuzzer.headers,
    "paths": Fuzzer.paths,
}


def write(local: Local, request: Request) -> bytes:
    """The bytes of a request, exactly as it is."""
    address = URL(local.server.base_url)
    path = f"{address.raw_path}/accounts/0/ai/{request.path}"
    headers = {
        "Host": f"{address.host}:{address.port}",
        "Authorization": "Bearer any",
        **request.headers,
        "Content-Length": str(len(request.body)),
        "Connection": "close",
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    start = f"{request.method} {path} HTTP/1.1\r\n{head}\r\n"
    return start.encode(errors="surrogateescape") + request.body


async def send(local: Local, request: Request) -> tuple[int, bytes]:
    """Send a request; give the status and everything that was answered."""
    address = URL(local.server.base_url)
    async with asyncio.timeout(60):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        try:
            writer.write(write(local, request))
            answer = await reader.read()
        finally:
            writer.close()
    version, status, _ = answer.split(b" ", 2)
    assert version.startswith(b"HTTP/1.")
    return int(status), answer


@pytest.mark.parametrize("kind", KINDS)
async def test_no_request_is_answered_with_an_internal_error(
    local: Local, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    fuzzer = Fuzzer(f"{kind} {SEED}")
    for _ in range(ROUNDS):
        request = KINDS[kind](fuzzer)
        status, answer = await send(local, request)
        assert status < 500 or status == 501, (request, answer)
        assert not caplog.records, (request, caplog.text)
    status, _ = await send(local, Request(f"run/{BERT}", b'{"text":"good"}'))
    assert status == 200


@pytest.mark.parametrize("reset", [False, True])
async def test_a_client_that_leaves_at_any_point_leaves_no_traceback(
    caplog: pytest.LogCaptureFixture, *, reset: bool
) -> None:
    requests = [Request(path, encode(document)) for path, document in DOCUMENTS]
    requests += [Request(path, body, headers=FORM) for path, body in FORMS]
    requests += [
        Request(path, gzip.compress(encode(document)), headers={"Content-Encoding": "gzip"})
        for path, document in DOCUMENTS
    ]
    source = random.Random(SEED)
    async with running() as local:
        address = URL(local.server.base_url)
        for request in requests:
            data = write(local, request)
            size = len(data)
            for cut in (size, size - 1, size - len(request.body), source.randrange(1, size)):
                _, writer = await asyncio.open_connection(address.host, address.port)
                writer.write(data[:cut])
                if reset:
                    # Closing such a socket resets the connection.
                    linger = struct.pack("ii", 1, 0)
                    connection = writer.get_extra_info("socket")
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.close()
        reply = await local.post(BERT, {"text": "good"})
        assert reply.status == 200
    gc.collect()
    assert not [record for record in caplog.records if record.levelno > logging.INFO], caplog.text
