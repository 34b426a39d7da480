"""`WorkersAI.run`, `stream` and `embed` over real sockets: requests and answers."""

import asyncio
import base64
import io
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from cfai import (
    Audio,
    AutomaticSpeechRecognition,
    Base64,
    Conversation,
    Decide,
    Description,
    Embeddings,
    Extract,
    Image,
    ImageClassification,
    ImageToText,
    Labels,
    MediaForm,
    Noul,
    Prompt,
    Rerank,
    Result,
    SpeechSynthesis,
    Text,
    TextClassification,
    TextEmbeddings,
    TextField,
    TextGeneration,
    TextToImage,
    TextToSpeech,
    TokenStream,
    Translation,
    WorkersAI,
    user,
)
from cfai.errors import (
    DecodeError,
    InputError,
    RequestTooLarge,
    StatusError,
    StreamInterrupted,
    StreamUnsupported,
)
from cfai.profiles import TASKS, models
from cfai.settings import Options, Retries
from cfai.tasks import Binary, Task
from cfai.testing import FakeWorkersAI, Reply

LLAMA = "@cf/meta/llama-3.1-8b-instruct-fast"
WHISPER = "@cf/openai/whisper"
TURBO = "@cf/openai/whisper-large-v3-turbo"
BGE = "@cf/baai/bge-base-en-v1.5"
QWEN = "@cf/qwen/qwen3-embedding-0.6b"
NEVER = Retries(max=0)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
JPEG = b"\xff\xd8\xff\xe0" + bytes(range(256))
MP3 = b"ID3\x04\x00" + bytes(range(256))
WAV = b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(range(256)) * 4
TRANSCRIPT = {"text": "hello"}


# Models and accounts


@pytest.mark.parametrize(
    "model",
    [
        LLAMA,
        "@hf/thebloke/mistral-7b",
        "plain",
        "@cf/a/b/c/d",
        "@cf/x/~._!$&'()*+,;=:-1",
    ],
)
async def test_the_model_is_sent_literally_in_the_path(fake: FakeWorkersAI, model: str) -> None:
    """Slashes and @ are not escaped: the service knows no other spelling."""
    fake.answers({"response": "Hello"})
    await fake.client().run(model, Prompt("x"))
    assert fake.requests[0].target == f"/client/v4/accounts/account/ai/run/{model}"


@pytest.mark.parametrize(
    "model",
    [
        "",
        "/",
        "/@cf/a",
        "@cf/a/",
        "@cf//a",
        ".",
        "..",
        "@cf/../a",
        "@cf/./a",
        "@cf/a?b",
        "@cf/a#b",
        "@cf%2Fa",
        "@cf/a b",
        "@cf/a\tb",
        "@cf/a\n",
        "@cf/a\r\nX-Evil: 1",
        "@cf/a\x00",
        "@cf\\a",
        "@cf/ä",
        "@cf/a\u2028",
        None,
        7,
        b"@cf/a",
        [],
        ["@cf/a?b"],
        ["@cf/a", "@cf/../a"],
        ["@cf/a", None],
        [["@cf/a"]],
        {"@cf/a"},
        iter(["@cf/a"]),
    ],
)
async def test_invalid_models_are_refused(fake: FakeWorkersAI, model: Any) -> None:
    """A name that would change the path, or can't be in one. Nothing is sent."""
    client = fake.client()
    with pytest.raises(InputError, match="model"):
        await client.run(model, Prompt("x"))
    with pytest.raises(InputError, match="model"):
        await client.run(model, {"prompt": "x"})
    with pytest.raises(InputError, match="model"):
        await client.stream(model, Prompt("x")).collect()
    with pytest.raises(InputError, match="model"):
        await client.embed(model, "x")
    assert fake.accepted == 0


@pytest.mark.parametrize("account", ["a/b", "..", ".", "a?b", "a#b", "a%2Fb", "a b", "a\r\nb", "ä"])
async def test_invalid_accounts_are_refused(fake: FakeWorkersAI, account: str) -> None:
    """An account is one path segment. It is not shown, since it may be a token."""
    with pytest.raises(InputError, match="account_id") as caught:
        await fake.client(account_id=account).run(LLAMA, Prompt("x"))
    assert len(account) < 3 or account not in str(caught.value)
    assert fake.accepted == 0


# Media


@pytest.mark.parametrize(
    ("model", "data", "kind"),
    [
        (WHISPER, MP3, "application/octet-stream"),
        (WHISPER, b"?", "application/octet-stream"),
        ("@cf/deepgram/nova-3", MP3, "audio/mpeg"),
        ("@cf/deepgram/nova-3", WAV, "audio/wav"),
        ("@cf/deepgram/nova-3", b"OggS" + bytes(9), "audio/ogg"),
        ("@cf/deepgram/nova-3", b"?", "application/octet-stream"),
    ],
)
async def test_a_recording_is_sent_as_raw_bytes(
    fake: FakeWorkersAI, model: str, data: bytes, kind: str
) -> None:
    """With the type of its content, if the model needs it."""
    fake.answers(TRANSCRIPT)
    transcript = await fake.client().run(model, AutomaticSpeechRecognition(data))
    [request] = fake.requests
    assert transcript.text == "hello"
    assert request.body == data
    assert request.headers["Content-Type"] == kind
    assert request.headers.all("Content-Length") == [str(len(data))]
    assert "Transfer-Encoding" not in request.headers


async def test_every_source_of_media_is_the_same_request(
    fake: FakeWorkersAI, tmp_path: Path
) -> None:
    """Bytes, a path (str or Path), an open file and base64 send the same bytes."""
    path = tmp_path / "hello.wav"
    path.write_bytes(WAV)
    text = base64.b64encode(WAV).decode()
    fake.always.answers(TRANSCRIPT)
    client = fake.client()
    with path.open("rb") as file:
        for source in (
            WAV,
            bytearray(WAV),
            memoryview(WAV),
            path,
            str(path),
            file,
            file,
            io.BytesIO(WAV),
            Base64(text),
            Base64(f"data:audio/wav;base64,{text}"),
            list(WAV),
        ):
            await client.run(WHISPER, AutomaticSpeechRecognition(source))
    assert [request.body for request in fake.requests] == [WAV] * 11
    assert {request.headers["Content-Type"] for request in fake.requests} == {
        "application/octet-stream"
    }


async def test_media_are_sent_as_the_model_wants(fake: FakeWorkersAI) -> None:
    """Base64, integers, or a form; each with its exact length."""
    fake.always.answers(TRANSCRIPT)
    client = fake.client()
    await client.run(TURBO, AutomaticSpeechRecognition(MP3))
    await client.run("@cf/unknown/ears", AutomaticSpeechRecognition(MP3))
    await client.run(WHISPER, AutomaticSpeechRecognition(MP3, source_lang="en"))
    await client.run(
        WHISPER, AutomaticSpeechRecognition(MP3, media_form=MediaForm.MULTIPART, source_lang="en")
    )
    coded, integers, beside, form = fake.requests
    assert coded.json() == {"audio": base64.b64encode(MP3).decode()}
    assert integers.json() == {"audio": list(MP3)}
    assert beside.json() == {"source_lang": "en", "audio": list(MP3)}
    assert form.headers["Content-Type"].startswith("multipart/form-data; boundary=")
    assert MP3 in form.body
    for request in fake.requests:
        assert request.headers.all("Content-Length") == [str(len(request.body))]
        assert "Transfer-Encoding" not in request.headers
    assert fake.accepted == 1, "a wrong length would have cost the connection"


@pytest.mark.parametrize("size", [1, 65535, 65536, 65537, 300_000])
async def test_integers_of_any_size(fake: FakeWorkersAI, size: int) -> None:
    """A list of integers is sent in pieces, and is complete."""
    data = bytes(range(256)) * (size // 256 + 1)
    fake.always.answers([{"label": "a", "score": 1.0}])
    client = fake.client()
    await client.run("@cf/unknown/eyes", ImageClassification(data[:size]))
    await client.run(LLAMA, TextClassification("x"))
    assert fake.requests[0].json() == {"image": list(data[:size])}
    assert fake.accepted == 1


@pytest.mark.parametrize(
    ("model", "task"),
    [
        (WHISPER, AutomaticSpeechRecognition(MP3)),
        (WHISPER, AutomaticSpeechRecognition(MP3 * 1000, source_lang="en")),
        (TURBO, AutomaticSpeechRecognition(MP3)),
        ("@cf/unknown/ears", AutomaticSpeechRecognition(io.BytesIO(MP3))),
        (WHISPER, AutomaticSpeechRecognition(MP3, media_form="multipart")),  # type: ignore[arg-type]  # a name will do
    ],
)
async def test_a_retry_sends_the_same_bytes(fake: FakeWorkersAI, model: str, task: Any) -> None:
    """For every form of body, on the same connection and on a new one."""
    fake.fails(503, 0, "down").hangs_up().answers(TRANSCRIPT)
    answer = await fake.client(retries=Retries(base=0)).run(model, task)
    assert answer.meta.attempts == 2, "a reused connection that is lost costs no attempt"
    first, second, third = fake.requests
    assert first.body == second.body == third.body
    assert first.headers.pairs == second.headers.pairs == third.headers.pairs


@pytest.mark.parametrize("size", [2**20, 2**20 + 1, 5_000_000])
async def test_a_large_body_is_sent_completely(fake: FakeWorkersAI, size: int) -> None:
    """Without a warning, with its length, and again in a retry."""
    data = (MP3 * (size // len(MP3) + 1))[:size]
    fake.fails(503, 0, "down").answers(TRANSCRIPT)
    client = fake.client(retries=Retries(base=0))
    await client.run(WHISPER, AutomaticSpeechRecognition(data))
    for request in fake.requests:
        assert request.body == data
        assert request.headers.all("Content-Length") == [str(size)]
        assert request.headers.all("Content-Type") == ["application/octet-stream"]
        assert "Transfer-Encoding" not in request.headers


async def test_a_refusal_during_an_upload(fake: FakeWorkersAI) -> None:
    """It is read, or the upload is repeated."""
    client = fake.client(retries=Retries(max=3, base=0))
    task = AutomaticSpeechRecognition(bytes(3_000_000), source_lang="en")
    for status in (503, 413):
        fake.replies(
            Reply(
                (b"{}",),
                status=status,
                headers={"Content-Type": "application/json"},
                framing="length",
                before_body=True,
            )
        )
    fake.answers(TRANSCRIPT)
    try:
        transcript = await client.run("@cf/unknown/ears", task)
    except RequestTooLarge:
        return
    assert transcript.text == "hello"
    assert len(fake.requests[-1].json()["audio"]) == 3_000_000


@pytest.mark.parametrize("before_body", [True, False])
async def test_an_upload_is_retried_after_a_lost_connection(
    fake: FakeWorkersAI, before_body: bool
) -> None:
    """From its first byte."""
    fake.hangs_up(reset=True, before_body=before_body)
    fake.answers(TRANSCRIPT)
    data = bytes(range(256)) * 8000
    client = fake.client(retries=Retries(base=0))
    await client.run("@cf/unknown/ears", AutomaticSpeechRecognition(data))
    assert fake.requests[-1].json() == {"audio": list(data)}


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("data:audio/wav;base64,UklGRg==", "data: URI"),
        ("https://example.com/a.wav", "URL"),
        ("/no/such/file.wav", "/no/such/file.wav"),
        (Path("/no/such/file.wav"), "No such file"),
        ("/", "directory"),
        ("a\x00b", "that a file can have"),
        ("", "empty"),
        (b"", "empty"),
        (bytearray(), "empty"),
        ([], "empty"),
        ([256], "0 to 255"),
        ([-1], "0 to 255"),
        ([1.5], "0 to 255"),
        (io.BytesIO(), "empty"),
        (io.StringIO("text"), "binary"),
        (7, "int"),
        (None, "None"),
        (object(), "object"),
    ],
)
async def test_unreadable_media_are_refused(fake: FakeWorkersAI, source: Any, reason: str) -> None:
    """The error says why. Nothing is sent."""
    for model in (WHISPER, TURBO, "@cf/unknown/ears"):
        with pytest.raises(InputError, match=reason):
            await fake.client().run(model, AutomaticSpeechRecognition(source))
    assert fake.accepted == 0


async def test_a_closed_file_is_refused(fake: FakeWorkersAI, tmp_path: Path) -> None:
    """A file is read when the task is run, and must be open then."""
    path = tmp_path / "a.wav"
    path.write_bytes(WAV)
    with path.open("rb") as file:
        task = AutomaticSpeechRecognition(file)
    with pytest.raises(InputError, match=r"a\.wav"):
        await fake.client().run(WHISPER, task)
    with path.open(encoding="latin-1") as text, pytest.raises(InputError, match="binary"):
        await fake.client().run(WHISPER, AutomaticSpeechRecognition(text))  # type: ignore[arg-type]  # the refusal is the test
    assert fake.accepted == 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
@pytest.mark.parametrize("opened", [False, True])
async def test_a_slow_file_does_not_block_the_loop(
    fake: FakeWorkersAI, tmp_path: Path, opened: bool
) -> None:
    """Files are read in a thread."""
    slow = tmp_path / "slow.wav"
    os.mkfifo(slow)
    fake.always.answers(TRANSCRIPT)
    client = fake.client()
    # Opened for both, so that nobody waits for the other end.
    with open(os.open(slow, os.O_RDWR), "wb", buffering=0) as feeder:  # noqa: ASYNC230, PTH123  # a pipe of our own
        source: Any = slow.open("rb", buffering=0) if opened else slow
        running = asyncio.create_task(client.run(WHISPER, AutomaticSpeechRecognition(source)))
        for _ in range(20):
            transcript = await client.run(WHISPER, AutomaticSpeechRecognition(MP3))
            assert transcript.text == "hello"
        assert not running.done()
        feeder.write(WAV)
    assert (await running).text == "hello"
    assert fake.requests[-1].body == WAV
    if opened:
        source.close()


async def test_an_image_in_a_message_is_read_from_its_file(
    fake: FakeWorkersAI, tmp_path: Path
) -> None:
    """Such a message needs file access, too."""
    path = tmp_path / "cat.png"
    path.write_bytes(PNG)
    fake.answers({"response": "a cat"})
    task = TextGeneration([user("What is this?", path)])
    assert (await fake.client().run("@cf/google/gemma-4-26b-a4b-it", task)).text == "a cat"
    [message] = fake.requests[0].json()["messages"]
    uri = message["content"][1]["image_url"]["url"]
    assert uri == f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    missing = TextGeneration([user("What is this?", tmp_path / "no.png")])
    with pytest.raises(InputError, match=r"no\.png"):
        await fake.client().run("@cf/google/gemma-4-26b-a4b-it", missing)
    assert len(fake.requests) == 1


# Mappings


async def test_a_mapping_is_sent_unchanged(fake: FakeWorkersAI) -> None:
    """It is the body, whatever it contains."""
    fake.always.answers({"any": ["thing"]})
    task = {"prompt": "é\u2028\U0001f600", "n": 1, "deep": {"list": [None, True, 1.5]}}
    answer = await fake.client().run("@cf/new/model", task)
    assert isinstance(answer, Result)
    assert answer.value == {"any": ["thing"]}
    assert answer["any"] == ["thing"]
    assert answer.meta.status == 200
    assert fake.requests[0].json() == task
    assert fake.requests[0].headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    "task",
    [
        {"a": object()},
        {"a": {1, 2}},
        {"a": b"bytes"},
        {"a": 1j},
        {1: "a"},
        {"a": "\ud800"},
        {"a": 2**70},
        {"a": Path("x")},
    ],
)
async def test_a_mapping_that_is_not_json_is_refused(fake: FakeWorkersAI, task: Any) -> None:
    """Nothing is sent."""
    with pytest.raises(InputError):
        await fake.client().run("@cf/new/model", task)
    assert fake.accepted == 0


@pytest.mark.parametrize(
    ("task", "field"),
    [
        *[(task, "task") for task in (None, b"text", bytearray(b"text"), 7, {"a"}, Prompt)],
        ("", "prompt"),
        *[(task, "messages") for task in ([], (), [("a", 1)], ["text"])],
    ],
)
async def test_other_inputs_are_refused(fake: FakeWorkersAI, task: Any, field: str) -> None:
    """The error says what is accepted."""
    client = fake.client()
    with pytest.raises(InputError, match=field):
        await client.run(LLAMA, task)
    with pytest.raises(InputError, match=field):
        await client.stream(LLAMA, task).collect()
    with pytest.raises(InputError, match=field):
        await client.parse(LLAMA, task, into=int)
    assert fake.accepted == 0


# Short forms


@pytest.mark.parametrize("model", [LLAMA, "@cf/new/model", "@cf/google/gemma-4-26b-a4b-it"])
@pytest.mark.parametrize(
    ("task", "fields"),
    [
        ("Hi", {"prompt": "Hi"}),
        ([user("Hi")], {"messages": [{"role": "user", "content": "Hi"}]}),
        (({"role": "user", "content": "Hi"},), {"messages": [{"role": "user", "content": "Hi"}]}),
        (Conversation().user("Hi"), {"messages": [{"role": "user", "content": "Hi"}]}),
    ],
)
async def test_texts_and_messages_are_short_for_tasks(
    fake: FakeWorkersAI, model: str, task: Any, fields: dict[str, Any]
) -> None:
    """A text is a `Prompt`, messages are a `TextGeneration`, in every method."""
    client = fake.client()
    fake.answers({"response": "Hello"})
    assert isinstance(await client.run(model, task), Text)
    assert fake.requests[-1].json() == fields
    for _ in range(2):
        fake.streams({"response": "Hello"})
    assert (await client.stream(model, task).collect()).text == "Hello"
    assert fake.requests[-1].json() == fields | {"stream": True}
    assert (await (await client.run(model, task, stream=True)).collect()).text == "Hello"
    fake.answers({"response": "7"})
    assert await client.parse(model, task, into=int) == 7
    assert fake.requests[-1].json().items() >= fields.items()
    fake.answers({"response": "Hello"})
    await client.run_tools(model, task, tools=[])
    assert fake.requests[-1].json()["messages"] == [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize("task", ["Hi", [user("Hi")]])
@pytest.mark.parametrize("kind", sorted(set(TASKS.values()) - {"Text Generation"}))
async def test_models_without_text_refuse_short_forms(
    fake: FakeWorkersAI, kind: str, task: Any
) -> None:
    """The error names the model's task and what to use. Nothing is sent."""
    way = "use embed()" if kind == "Text Embeddings" else "pass a"
    expected = re.escape(f"does not generate text (its task is {kind}): {way}")
    client = fake.client()
    for model in models(kind):
        with pytest.raises(InputError, match=expected):
            await client.run(model, task)
        with pytest.raises(InputError, match=expected):
            client.stream(model, task)
        with pytest.raises(InputError, match=expected):
            await client.parse(model, task, into=int)
        with pytest.raises(InputError, match=expected):
            client.run_tools(model, task, tools=[])
    assert fake.accepted == 0


@pytest.mark.parametrize(
    ("task", "way"),
    [
        (TextEmbeddings("a"), "run"),
        (Rerank("a", ["b"]), "run"),
        (Decide("a", {"b": Noul("c")}), "run"),
        (Extract("a", {"b": TextField()}), "run"),
        (TextToImage("a"), "run"),
        (TextToSpeech("a"), "audio"),
        (SpeechSynthesis("a"), "audio"),
        (AutomaticSpeechRecognition(WAV), "run"),
        (Translation("a", "de"), "run"),
    ],
)
async def test_tasks_without_text_are_not_streamed(
    fake: FakeWorkersAI, task: Task[Any], way: str
) -> None:
    """The answer would be paid for and then lost. Nothing is sent."""
    expected = re.escape(f"{type(task).__name__} has none: call {way}()")
    with pytest.raises(InputError, match=expected):
        fake.client().stream("@cf/new/model", task)
    with pytest.raises(InputError, match=expected):
        await fake.client().run("@cf/new/model", task, stream=True)
    assert fake.accepted == 0


@pytest.mark.parametrize(
    ("model", "way"),
    [
        ("@cf/cloudflare/clef", "call decide()"),
        ("@cf/cloudflare/clef-omni", "call decide()"),
        ("@cf/cloudflare/clairic-flash", "call extract()"),
    ],
)
async def test_models_of_typed_answers_refuse_short_forms(
    fake: FakeWorkersAI, model: str, way: str
) -> None:
    """The service lists them under text generation, but they take no prompt."""
    with pytest.raises(InputError, match=re.escape(f"{model} does not generate text: {way}")):
        await fake.client().run(model, "Hi")
    assert fake.accepted == 0


# Mistakes in calls

NEEDED: dict[str, dict[str, Any]] = {
    "parse": {"into": int},
    "decide": {"into": int},
    "extract": {"into": int},
    "run_tools": {"tools": []},
    "to_markdown": {},
}
"""Keyword arguments that a method can't do without."""

METHODS = (
    "run", "stream", "audio", "parse", "run_tools", "embed", "embed_many", "decide", "extract",
    "queue", "queued",
)  # fmt: skip
"""The methods of a model that have options of a call."""

OPTIONS = [
    ("timeout", "pass options=Options(timeouts=Timeouts(total=...))"),
    ("timeouts", "pass options=Options(timeouts=...)"),
    ("max_retries", "pass options=Options(retries=Retries(max=...))"),
    ("headers", "pass options=Options(headers=...)"),
    ("extra_headers", "pass options=Options(headers=...)"),
    ("route", "pass options=Options(route=...)"),
]


@pytest.mark.parametrize(
    ("method", "name", "way"),
    [
        *[(method, name, way) for method in METHODS for name, way in OPTIONS],
        *[
            (method, name, way)
            for method in ("run", "stream", "parse", "queue")
            for name, way in [
                ("temperature", "set it on the task: Prompt(text, temperature=...)"),
                ("functions", "set it on the task: TextGeneration(messages, functions=...)"),
            ]
        ],
        (
            "run_tools",
            "temperature",
            "set it on the task: TextGeneration(messages, temperature=...)",
        ),
        ("audio", "speaker", "set it on the task: SpeechSynthesis(text, speaker=...)"),
        ("audio", "lang", "set it on the task: TextToSpeech(prompt, lang=...)"),
        ("embed", "truncate_inputs", "run a task: TextEmbeddings(texts, truncate_inputs=...)"),
        ("decide", "questions", "run a task: Decide(state, questions)"),
        (
            "extract",
            "include_quantiles",
            "run a task: Extract(text, fields, include_quantiles=...)",
        ),
    ],
)
async def test_unknown_keywords_are_explained(
    fake: FakeWorkersAI, method: str, name: str, way: str
) -> None:
    """The error names the place of the argument. Nothing is sent."""
    problem = f"{method}() got an unexpected keyword argument '{name}'; {way}"
    with pytest.raises(TypeError, match=f"^{re.escape(problem)}$"):
        await getattr(fake.client(), method)(LLAMA, "Hi", **NEEDED.get(method, {}), **{name: 1})
    assert fake.accepted == 0


@pytest.mark.parametrize("method", METHODS)
async def test_meaningless_keywords_are_refused(fake: FakeWorkersAI, method: str) -> None:
    """As Python does it."""
    problem = f"{method}() got an unexpected keyword argument 'nonsense'"
    with pytest.raises(TypeError, match=f"^{re.escape(problem)}$"):
        await getattr(fake.client(), method)(LLAMA, "Hi", **NEEDED.get(method, {}), nonsense=1)


async def test_unknown_keywords_of_a_conversion_name_its_own_argument(fake: FakeWorkersAI) -> None:
    """Whose `options` are those of the conversion."""
    way = "pass call=Options(timeouts=Timeouts(total=...))"
    with pytest.raises(TypeError, match=f"^to_markdown.*'timeout'; {re.escape(way)}$"):
        await fake.client().to_markdown("a.txt", timeout=5)  # type: ignore[arg-type]
    assert fake.accepted == 0


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("timeout", "; pass timeouts=Timeouts(total=...)"),
        ("max_retries", "; pass retries=Retries(max=...)"),
        ("default_headers", "; pass headers=..."),
        ("token", "; pass api_token=..."),
        ("route", "; pass options=Options(route=...) to the call"),
        ("nonsense", ""),
    ],
)
async def test_unknown_keywords_of_a_client_are_explained(
    fake: FakeWorkersAI, name: str, way: str
) -> None:
    """When it is created, and when it is copied."""
    problem = f"got an unexpected keyword argument '{name}'{way}"
    with pytest.raises(TypeError, match=f"^{re.escape(f'WorkersAI() {problem}')}$"):
        fake.client(**{name: 1})
    changes: dict[str, Any] = {name: 1}
    with pytest.raises(TypeError, match=f"^{re.escape(f'with_options() {problem}')}$"):
        fake.client().with_options(**changes)


@pytest.mark.parametrize(
    ("start", "way"),
    [
        (lambda ai: ai.embed_many(BGE, ["a"]), r"async for batch in job.*await job\.numpy\(\)"),
        (lambda ai: ai.stream(LLAMA, "a"), r"async for token in .*await stream\.collect\(\)"),
        (lambda ai: ai.models.search(), r"async for row in pager.*await pager\.to_list\(\)"),
    ],
)
async def test_awaiting_what_is_iterated_is_explained(
    fake: FakeWorkersAI, start: Any, way: str
) -> None:
    """The error says how to iterate it. Nothing is sent."""
    with pytest.raises(TypeError, match=way):
        await start(fake.client())
    assert fake.accepted == 0


@pytest.mark.parametrize(
    ("kind", "body", "answer", "media_type"),
    [
        ("image/png", PNG, Image, "image/png"),
        ("image/jpeg", JPEG, Image, "image/jpeg"),
        ("IMAGE/PNG; a=b", PNG, Image, "image/png"),
        ("audio/mpeg", MP3, Audio, "audio/mpeg"),
        ("audio/wav", WAV, Audio, "audio/wav"),
        ("application/octet-stream", PNG, Image, "image/png"),
        ("application/octet-stream", b"?", Binary, "application/octet-stream"),
        ("video/mp4", b"\x00\x00\x00\x18ftypmp42", Binary, "video/mp4"),
        ("application/pdf", b"%PDF-1.7", Binary, "application/pdf"),
    ],
)
async def test_the_content_type_decides_the_answer_of_a_mapping(
    fake: FakeWorkersAI, kind: str, body: bytes, answer: type[Binary], media_type: str
) -> None:
    """Bytes become what their Content-Type names."""
    fake.says(body, content_type=kind)
    drawn = await fake.client().run("@cf/any/model", {"prompt": "a cat"})
    assert type(drawn) is answer
    assert isinstance(drawn, Binary)
    assert (drawn.data, drawn.media_type) == (body, media_type)
    assert drawn.meta.status == 200


@pytest.mark.parametrize(("key", "data", "kind"), [("image", PNG, Image), ("audio", MP3, Audio)])
async def test_base64_answers_are_decoded(
    fake: FakeWorkersAI, key: str, data: bytes, kind: type[Binary]
) -> None:
    """An image or audio in JSON is the same answer as one in bytes."""
    fake.answers({key: base64.b64encode(data).decode()})
    answer = await fake.client().run("@cf/any/model", {"prompt": "a cat"})
    assert type(answer) is kind
    assert isinstance(answer, Binary)
    assert answer.data == data


async def test_an_image_task_reads_bytes_and_base64(fake: FakeWorkersAI) -> None:
    """As the model chooses."""
    client = fake.client()
    fake.says(PNG, content_type="image/png")
    fake.answers({"image": base64.b64encode(JPEG).decode()})
    drawn = await client.run("@cf/a/painter", TextToImage("a cat"))
    coded = await client.run("@cf/b/painter", TextToImage("a cat"))
    assert (drawn.data, drawn.media_type) == (PNG, "image/png")
    assert (coded.data, coded.media_type) == (JPEG, "image/jpeg")


@pytest.mark.parametrize("value", [None, True, 7, "text", [], [1], {}])
async def test_the_answer_of_a_mapping_can_be_any_json(fake: FakeWorkersAI, value: Any) -> None:
    """Without an envelope, the whole document is the result."""
    fake.answers(value)
    fake.says(json.dumps({"plain": value}))
    client = fake.client()
    enveloped, bare = [await client.run("@cf/any/model", {}) for _ in range(2)]
    assert isinstance(enveloped, Result)
    assert isinstance(bare, Result)
    assert (enveloped.value, bare.value) == (value, {"plain": value})


# Streams, requested or not


async def test_a_mapping_answered_by_a_stream(fake: FakeWorkersAI) -> None:
    """moondream streams by default."""
    fake.streams("Hel", "lo")
    tokens = await fake.client().run("@cf/any/model", {"prompt": "x"})
    assert isinstance(tokens, TokenStream)
    async with tokens:
        assert [str(token) async for token in tokens] == ["Hel", "lo"]
    assert tokens.meta.status == 200


async def test_a_task_answered_by_a_stream_is_collected(fake: FakeWorkersAI) -> None:
    """The task decides the class of the answer, however the model sends it."""
    client = fake.client(limit=1)
    fake.streams("Hel", "lo", {"response": "", "usage": {"prompt_tokens": 1}})
    text = await client.run(LLAMA, Prompt("x"))
    assert isinstance(text, Text)
    assert text.text == "Hello"
    assert text.usage is not None
    assert text.usage.prompt_tokens == 1
    assert text.meta.status == 200
    fake.streams("a ", "cat")
    description = await client.run("@cf/any/eyes", ImageToText(PNG))
    assert isinstance(description, Description)
    assert description.text == "a cat"
    fake.streams("Hel", "lo")
    with pytest.raises(DecodeError, match="Labels"):
        await client.run("@cf/any/model", TextClassification("x"))
    fake.streams("Hel", then_hangs_up=True)
    with pytest.raises(StreamInterrupted):
        await client.run(LLAMA, Prompt("x"))
    fake.answers({"response": "Hello"})
    assert (await client.run(LLAMA, Prompt("x"))).text == "Hello"


@pytest.mark.parametrize(
    ("task", "stream"),
    [
        (Prompt("x", stream=True), None),
        (Prompt("x"), True),
        (Prompt("x", stream=False), True),
        (TextGeneration([user("x")], stream=True), None),
        ({"prompt": "x", "stream": True}, None),
        ({"prompt": "x"}, True),
    ],
)
async def test_run_returns_a_stream_on_request(
    fake: FakeWorkersAI, task: Any, stream: bool | None
) -> None:
    """By the task or the call: it is open, and `stream: true` was sent once."""
    fake.streams("Hel", "lo")
    tokens: Any = await fake.client().run(LLAMA, task, stream=stream)
    assert isinstance(tokens, TokenStream)
    [request] = fake.requests
    assert request.json()["stream"] is True
    assert request.body.count(b'"stream"') == 1
    assert request.headers["Accept"] == "text/event-stream"
    assert str(await tokens.collect()) == "Hello"


@pytest.mark.parametrize("task", [Prompt("x", stream=True), {"prompt": "x", "stream": True}])
async def test_stream_false_overrides_the_task(fake: FakeWorkersAI, task: Any) -> None:
    """No stream is requested."""
    fake.answers({"response": "Hello"})
    answer = await fake.client().run(LLAMA, task, stream=False)
    assert isinstance(answer, Text | Result)
    assert fake.requests[0].json()["stream"] is False


async def test_a_stream_answered_by_json(fake: FakeWorkersAI) -> None:
    """A complete answer is a stream of one token; an empty one is an error."""
    client = fake.client()
    fake.answers({"response": "Hello"})
    tokens = client.stream(LLAMA, Prompt("x"))
    assert [str(token) async for token in tokens] == ["Hello"]
    fake.answers({}).answers({})
    with pytest.raises(StreamUnsupported, match="run"):
        await client.stream(LLAMA, Prompt("x")).collect()


async def test_nothing_is_sent_before_a_stream_is_entered(fake: FakeWorkersAI) -> None:
    """A stream that is never entered sends nothing."""
    tokens = fake.client().stream(LLAMA, Prompt("x"))
    await asyncio.sleep(0)
    await tokens.aclose()
    del tokens
    assert fake.accepted == 0


# Embeddings


async def test_embed(fake: FakeWorkersAI) -> None:
    """One vector per text, in order; a single text is a list of one."""
    fake.answers({"shape": [2, 3], "data": [[1, 2, 3], [4, 5, 6]], "pooling": "cls"})
    fake.answers({"shape": [1, 3], "data": [[1, 2, 3]]})
    client = fake.client()
    vectors = await client.embed(BGE, ["one", "two"], pooling="cls")
    assert isinstance(vectors, Embeddings)
    assert vectors.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert vectors.pooling == "cls"
    assert fake.requests[0].json() == {"text": ["one", "two"], "pooling": "cls"}
    assert (await client.embed(BGE, "one")).shape == (1, 3)
    assert fake.requests[1].json() == {"text": "one"}


@pytest.mark.parametrize(("model", "most"), [(BGE, 100), (QWEN, 32)])
async def test_the_number_of_texts_is_limited(fake: FakeWorkersAI, model: str, most: int) -> None:
    """At the bound they are sent; beyond it they are refused."""
    client = fake.client()
    with pytest.raises(InputError, match=f"at most {most} .*{model}, got {most + 1}"):
        await client.embed(model, ["x"] * (most + 1))
    with pytest.raises(InputError, match=f"at most {most}"):
        await client.run(model, TextEmbeddings(["x"] * (most + 1)))
    for texts in ([], [""], "", ["a", ""], [None], None, [1], b"x"):
        with pytest.raises(InputError):
            await client.embed(model, texts)  # type: ignore[arg-type]  # the refusal is the test
    assert fake.accepted == 0
    fake.answers({"shape": [most, 1], "data": [[0.5]] * most})
    assert len(await client.embed(model, ["x"] * most)) == most


@pytest.mark.parametrize("came", [0, 1, 3])
async def test_the_number_of_vectors_is_checked(fake: FakeWorkersAI, came: int) -> None:
    """Otherwise they can't be matched to the texts."""
    fake.answers({"shape": [came, 1], "data": [[0.5]] * came})
    with pytest.raises(DecodeError, match=f"{came} vectors? came back for 2 texts"):
        await fake.client().embed(BGE, ["one", "two"])


# Answers


async def test_an_answer_has_raw_and_meta(fake: FakeWorkersAI) -> None:
    """`raw` is the result with unknown fields; `meta` has the headers' facts."""
    fake.answers(
        {"response": "Hello", "new_field": [1]},
        headers={
            "cf-ray": "8f1-AMS",
            "cf-ai-req-id": "req",
            "Ratelimit": '"default";r=50;t=30',
            "Ratelimit-Policy": '"burst";q=100;w=60',
            "cf-aig-log-id": "log",
            "cf-aig-cache-status": "HIT",
        },
    )
    answer = await fake.client().run(LLAMA, Prompt("x"))
    assert answer.raw == {"response": "Hello", "new_field": [1]}
    meta = answer.meta
    assert (meta.status, meta.ray_id, meta.request_id) == (200, "8f1-AMS", "req")
    assert (meta.rate_limit, meta.rate_limit_policy) == (
        '"default";r=50;t=30',
        '"burst";q=100;w=60',
    )
    assert (meta.gateway_log_id, meta.cache_status, meta.attempts) == ("log", "HIT", 1)
    assert meta.media_type == "application/json"
    assert 0 < meta.elapsed < 10


async def test_one_task_for_many_models(fake: FakeWorkersAI) -> None:
    """A task is a value and can be sent any number of times, concurrently."""
    fake.always.answers([{"label": "GOOD", "score": 1.0}])
    client = fake.client()
    task = TextClassification("x")
    calls = [
        client.run(f"@cf/a/{number}", task, options=Options(headers={"X-Own": str(number)}))
        for number in range(10)
    ]
    for labels in await asyncio.gather(*calls):
        assert isinstance(labels, Labels)
        assert labels.best.label == "GOOD"
    assert {request.headers["X-Own"] for request in fake.requests} == set("0123456789")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_an_error(fake: FakeWorkersAI, status: int) -> None:
    """It is neither followed nor retried."""
    async with FakeWorkersAI() as other:
        fake.says(status=status, headers={"Location": f"{other.base_url}/elsewhere"})
        with pytest.raises(StatusError, match="redirect") as caught:
            await fake.client(api_token="t0p-s3cr3t").run(LLAMA, Prompt("x"))
        assert caught.value.status == status
        assert (len(fake.requests), other.accepted) == (1, 0)


async def test_creating_a_client_does_no_io() -> None:
    """It needs no event loop, and need not be closed."""

    def many() -> list[WorkersAI]:
        return [WorkersAI(account_id="a", api_token="t") for _ in range(100)]

    assert len({id(client) for client in many()}) == 100
    assert len(await asyncio.to_thread(many)) == 100
