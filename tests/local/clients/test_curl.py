"""The lines with curl in Cloudflare's docs, with the address and the token of the local server.

Source: Cloudflare docs, Workers AI, "REST API", "OpenAI compatible API endpoints", "Fine-tunes" and
the pages of the models; AI Gateway, "Workers AI" (November 2026).
"""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.local.clients.conftest import BGE, LLAMA, OSS, RERANKER, Address

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")

HI = [{"role": "user", "content": "Where did the phrase Hello World come from"}]
JSON = ("-H", "Content-Type: application/json")


async def curl(address: Address, path: str, *options: str) -> Any:
    """Run a line and give what it prints: JSON, or the events of a stream."""
    url = path if path.startswith("http") else f"{address.api}/accounts/{address.account}/ai/{path}"
    token = ("-H", f"Authorization: Bearer {address.token}")
    process = await asyncio.create_subprocess_exec(
        "curl", "-sS", url, *token, *options, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output if output.startswith(b"data: ") else orjson.loads(output)


def body(**fields: Any) -> tuple[str, ...]:
    return "-d", orjson.dumps(fields).decode()


async def test_a_run(address: Address) -> None:
    """Without a content type, curl says that the JSON is a form, as the docs' lines do."""
    answer = await curl(address, f"run/{LLAMA}", "-X", "POST", *body(prompt="Hi", max_tokens=4))
    assert answer["result"]["response"]
    assert (answer["success"], answer["errors"], answer["messages"]) == (True, [], [])


async def test_a_streamed_run(address: Address) -> None:
    events = await curl(address, f"run/{LLAMA}", *body(prompt="Hi", max_tokens=4, stream=True))
    assert events.endswith(b"data: [DONE]\n\n")


async def test_a_model_in_the_body(address: Address) -> None:
    line = body(model=LLAMA, input={"prompt": "Hi", "max_tokens": 4})
    assert (await curl(address, "run", *JSON, *line))["result"]["response"]


async def test_chat_completions(address: Address) -> None:
    line = {"model": LLAMA, "messages": HI, "max_tokens": 8}
    answer = await curl(address, "v1/chat/completions", *JSON, *body(**line))
    assert answer["choices"][0]["message"]["content"]
    events = await curl(address, "v1/chat/completions", *JSON, *body(**line, stream=True))
    assert b'"object":"chat.completion.chunk"' in events
    assert events.endswith(b"data: [DONE]\n\n")


async def test_embeddings(address: Address) -> None:
    answer = await curl(address, "v1/embeddings", *JSON, *body(model=BGE, input="I love matcha"))
    assert len(answer["data"][0]["embedding"]) == 384


async def test_responses(address: Address) -> None:
    line = body(model=OSS, input="What is the capital of France?", max_output_tokens=8)
    answer = await curl(address, "v1/responses", *JSON, *line)
    assert answer["output"][0]["content"][0]["text"]


async def test_reranking(address: Address) -> None:
    line = body(query="tea", contexts=[{"text": "a cup of tea"}, {"text": "rain"}])
    answer = await curl(address, f"run/{RERANKER}", *line)
    assert answer["result"]["response"][0]["id"] == 0


async def test_a_search_for_models(address: Address) -> None:
    answer = await curl(address, "models/search?search=bge-m3", "-X", "GET")
    assert [row["name"] for row in answer["result"]] == ["@cf/baai/bge-m3"]
    schema = await curl(address, f"models/schema?model={BGE}", "-X", "GET")
    assert schema["result"]["input"]["properties"]["text"]


@pytest.mark.parametrize("path", [f"workers-ai/{LLAMA}", "workers-ai/v1/chat/completions"])
async def test_the_paths_of_a_gateway(address: Address, path: str) -> None:
    url = f"{address.api.removesuffix('/client/v4')}/v1/{address.account}/my-gateway/{path}"
    line = {"messages": HI, "max_tokens": 4}
    answer = await curl(
        address, url, *JSON, *body(**line, **({} if "@" in path else {"model": LLAMA}))
    )
    assert answer["choices" if "v1/" in path else "result"]


async def test_audio_as_the_body(address: Address, tmp_path: Path) -> None:
    """The recording arrives; what is no recording is refused by the decoder, or by the task."""
    path = tmp_path / "talking-llama.mp3"
    path.write_bytes(b"ID3 no recording")
    answer = await curl(
        address, "run/@cf/openai/whisper", "-X", "POST", "--data-binary", f"@{path}"
    )
    assert answer["success"] is False
    assert answer["errors"][0]["code"] in (5006, 90001)


async def test_fine_tunes(address: Address, tmp_path: Path) -> None:
    """Created, filled with two forms, and listed; with the docs' slash at the end."""
    base = "@cf/mistral/mistral-7b-instruct-v0.2-lora"
    line = body(model=base, name="my-finetune", description="mine")
    created = await curl(address, "finetunes/", "-X", "POST", *JSON, *line)
    identifier = created["result"]["id"]
    config = tmp_path / "adapter_config.json"
    config.write_bytes(orjson.dumps({"r": 8, "model_type": "mistral", "peft_type": "LORA"}))
    uploaded = await curl(
        address,
        f"finetunes/{identifier}/finetune-assets/",
        "-X",
        "POST",
        "-H",
        "Content-Type: multipart/form-data",
        "-F",
        "file_name=adapter_config.json",
        "-F",
        f"file=@{config}",
    )
    assert uploaded["success"] is True
    listed = await curl(address, "finetunes/", "-X", "GET", *JSON)
    assert [row["name"] for row in listed["result"]] == ["my-finetune"]


async def test_markdown(address: Address, tmp_path: Path) -> None:
    page = tmp_path / "a.html"
    page.write_text("<h1>Hi</h1>")
    answer = await curl(address, "tomarkdown", "-X", "POST", "-F", f"files=@{page}")
    assert answer["result"][0]["data"] == "# Hi\n"
