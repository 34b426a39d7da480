"""Answers of every task: each documented form by its bytes, and undocumented ones."""

import json
from array import array
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from traceback import format_exception
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from cfai._session.redaction import redact_error
from cfai._types.json import dumps
from cfai._wire.answers import (
    AnswerSpec,
    answer_from_text,
    answer_spec,
    read_answer,
    read_whole_text,
)
from cfai._wire.errors import describe_decode_error
from cfai._wire.responses import Response, read_meta
from cfai.errors import (
    BadRequest,
    CfaiError,
    DecodeError,
    ServerError,
    StatusError,
    StreamUnsupported,
)
from cfai.meta import Meta
from cfai.tasks import (
    Answer,
    Audio,
    AutomaticSpeechRecognition,
    Binary,
    Box,
    Description,
    Detection,
    Detections,
    Embeddings,
    Function,
    Image,
    ImageClassification,
    ImagePrompt,
    ImageTextToText,
    ImageToText,
    Label,
    Labels,
    MultimodalEmbeddings,
    ObjectDetection,
    Prompt,
    Ranked,
    Ranking,
    Rerank,
    Result,
    Segment,
    SpeechSynthesis,
    Summarization,
    Summary,
    Task,
    Text,
    TextClassification,
    TextEmbeddings,
    TextGeneration,
    TextToImage,
    TextToSpeech,
    Tool,
    ToolCall,
    Transcript,
    Translated,
    Translation,
    Usage,
    Word,
    user,
)

TOKEN = "Sn3lZJTBX6kkg7OdcBUAxOO963GEIyGQqnFTOFYY"  # noqa: S105  # of the API's own page
JSON = "application/json"

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF"
MP3 = b"ID3\x04\x00\x00\x00\x00\x00\x00"
PNG64, JPEG64, MP364 = (b64encode(data).decode() for data in (PNG, JPEG, MP3))

OPEN = {"any": "thing"}
AUDIO = AutomaticSpeechRecognition(b"a")


def response(body: bytes | str, kind: str | None = JSON, status: int = 200) -> Response:
    headers = (
        {"cf-ray": "8f1a-AMS"} if kind is None else {"cf-ray": "8f1a-AMS", "Content-Type": kind}
    )
    data = body.encode() if isinstance(body, str) else body
    return Response(status, headers, data, read_meta(status, headers, attempts=1, elapsed=0.0))


def read_task_answer(
    task: Task[Any] | dict[str, Any],
    body: bytes | str,
    kind: str | None = JSON,
    status: int = 200,
) -> Answer:
    return read_described(read_answer, task, response(body, kind, status))


def read_described(
    read: Callable[[AnswerSpec, Response], Answer],
    task: Task[Any] | dict[str, Any],
    received: Response,
) -> Answer:
    """Read a response, and add it to the error, as a session does."""
    try:
        return read(answer_spec(task), received)
    except DecodeError as exc:
        describe_decode_error(exc, received.body, received.meta)
        raise


def floats(*rows: list[float]) -> tuple[tuple[int, int], "array[float]"]:
    return (len(rows), len(rows[0])), array("f", [number for row in rows for number in row])


# Task, the result by its bytes, what it says. Source, unless named: the model's output schema
# (developers.cloudflare.com/workers-ai/models) or the API page "Execute AI model", Returns.
RESULTS: dict[str, tuple[Task[Any] | dict[str, Any], str, Answer]] = {
    "distilbert": (
        TextClassification("bad"),
        '[{"label":"NEGATIVE","score":0.9998},{"label":"POSITIVE","score":0.0002}]',
        Labels((Label("NEGATIVE", 0.9998), Label("POSITIVE", 0.0002))),
    ),
    "the API page's example": (
        TextClassification("a"),
        '[{"label":"label","score":0}]',
        Labels((Label("label", 0.0),)),
    ),
    "no label at all": (TextClassification("a"), "[]", Labels(())),
    "resnet": (
        ImageClassification(b"i"),
        '[{"label":"TABBY","score":0.5,"new":1}]',
        Labels((Label("TABBY", 0.5),)),
    ),
    "detr": (
        ObjectDetection(b"i"),
        '[{"label":"cat","score":0.9,"box":{"xmin":1,"ymin":2.5,"xmax":30,"ymax":40}}]',
        Detections((Detection("cat", 0.9, Box(1.0, 2.5, 30.0, 40.0)),)),
    ),
    "flux": (TextToImage("a"), f'{{"image":"{JPEG64}"}}', Image(JPEG, "image/jpeg")),
    "flux, a PNG": (TextToImage("a"), f'{{"image":"{PNG64}"}}', Image(PNG, "image/png")),
    "an image as bare text": (TextToImage("a"), f'"{PNG64}"', Image(PNG, "image/png")),
    "an image as a data URI": (
        TextToImage("a"),
        f'{{"image":"data:image/png;base64,{PNG64}"}}',
        Image(PNG, "image/png"),
    ),
    "melotts": (TextToSpeech("a"), f'{{"audio":"{MP364}"}}', Audio(MP3, "audio/mpeg")),
    "speech as bare text": (TextToSpeech("a"), f'"{MP364}"', Audio(MP3, "audio/mpeg")),
    "aura as JSON": (SpeechSynthesis("a"), f'{{"audio":"{MP364}"}}', Audio(MP3, "audio/mpeg")),
    "bge": (
        TextEmbeddings(["a", "b"]),
        '{"shape":[2,3],"data":[[0.5,-1,0],[1,2,3.25]],"pooling":"cls"}',
        Embeddings(*floats([0.5, -1.0, 0.0], [1.0, 2.0, 3.25]), pooling="cls"),
    ),
    "one text": (
        TextEmbeddings("a"),
        '{"shape":[1,2],"data":[[0.5,1]]}',
        Embeddings(*floats([0.5, 1.0])),
    ),
    "shape as floats, or missing": (
        TextEmbeddings("a"),
        '{"shape":[1.0,2.0],"data":[[0.5,1]]}',
        Embeddings(*floats([0.5, 1.0])),
    ),
    "no shape": (TextEmbeddings("a"), '{"data":[[0.5]]}', Embeddings(*floats([0.5]))),
    "bge-m3 of contexts": (
        TextEmbeddings("a", extra={"contexts": [{"text": "a"}]}),
        '{"response":[[0.5,1]],"shape":[1,2],"pooling":"cls"}',
        Embeddings(*floats([0.5, 1.0]), pooling="cls"),
    ),
    # Observed of newer embedding models; the count is in the vocabulary of chat completions.
    "with usage": (
        TextEmbeddings("a"),
        '{"shape":[1,1],"data":[[1]],"usage":{"prompt_tokens":3,"total_tokens":3}}',
        Embeddings(*floats([1.0]), usage=Usage(3, 0, 3)),
    ),
    "multimodal": (
        MultimodalEmbeddings(image=b"i", text=["a"]),
        '{"shape":[2,1],"data":[[0.5],[1]]}',
        Embeddings(*floats([0.5], [1.0])),
    ),
    "whisper": (
        AUDIO,
        (
            '{"text":"Hi there","word_count":2,"words":[{"word":"Hi","start":0,"end":0.5},'
            '{"word":"there","start":0.5,"end":1.25}],'
            '"vtt":"WEBVTT\\n\\n00.000 --> 01.250\\nHi there"}'
        ),
        Transcript(
            "Hi there",
            vtt="WEBVTT\n\n00.000 --> 01.250\nHi there",
            word_count=2,
            words=(Word("Hi", 0.0, 0.5), Word("there", 0.5, 1.25)),
        ),
    ),
    "whisper, the text alone": (AUDIO, '{"text":""}', Transcript("")),
    "whisper-large-v3-turbo": (
        AUDIO,
        (
            '{"transcription_info":{"language":"en","language_probability":0.98,"duration":1.5,'
            '"duration_after_vad":1.25},"text":"Hi there","word_count":2.0,"segments":[{"start":0,'
            '"end":1.25,"text":" Hi there","temperature":0,"avg_logprob":-0.2,"words":['
            '{"word":" Hi","start":0,"end":0.5},{"word":" there","start":0.5,"end":1.25}]}],'
            '"vtt":"WEBVTT"}'
        ),
        Transcript(
            "Hi there",
            vtt="WEBVTT",
            word_count=2,
            words=(Word(" Hi", 0.0, 0.5), Word(" there", 0.5, 1.25)),
            segments=(
                Segment(
                    " Hi there",
                    0,
                    1.25,
                    (Word(" Hi", 0.0, 0.5), Word(" there", 0.5, 1.25)),
                ),
            ),
            info={
                "language": "en",
                "language_probability": 0.98,
                "duration": 1.5,
                "duration_after_vad": 1.25,
            },
        ),
    ),
    "nova-3": (
        AUDIO,
        (
            '{"results":{"channels":[{"alternatives":[{"confidence":0.99,"transcript":"Hi there",'
            '"words":[{"confidence":0.9,"end":0.5,"start":0,"word":"Hi"},'
            '{"confidence":0.9,"end":1.25,"start":0.5,"word":"there"}]}]}],'
            '"summary":{"result":"success","short":"A greeting"}}}'
        ),
        Transcript(
            "Hi there",
            word_count=2,
            words=(Word("Hi", 0.0, 0.5), Word("there", 0.5, 1.25)),
            info={"confidence": 0.99},
        ),
    ),
    "nova-3, silence": (
        AUDIO,
        '{"results":{"channels":[{"alternatives":[{"transcript":""}]}]}}',
        Transcript(""),
    ),
    "prompt": (Prompt("a"), '{"response":"Hello"}', Text("Hello")),
    "chat": (
        TextGeneration([user("a")]),
        '{"choices":[{"message":{"content":"Hello"},"finish_reason":"stop"}]}',
        Text("Hello", finish_reason="stop"),
    ),
    "chat with a tool": (
        TextGeneration([user("a")]),
        '{"response":null,"tool_calls":[{"name":"f","arguments":{"x":1}}]}',
        Text(tool_calls=(ToolCall("f", {"x": 1}),)),
    ),
    "JSON mode": (
        TextGeneration([user("a")], response_format={"type": "object"}),
        '{"response":"{\\"a\\":1}"}',
        Text('{"a":1}', {"a": 1}),
    ),
    "m2m100": (Translation("a", target_lang="fr"), '{"translated_text":"b"}', Translated("b")),
    "indictrans2": (
        Translation("a", target_lang="hin_Deva"),
        '{"translations":["नमस्ते"]}',
        Translated("नमस्ते"),
    ),
    "bart": (Summarization("a"), '{"summary":"b"}', Summary("b")),
    "llava": (ImageToText(b"i"), '{"description":"A cat."}', Description("A cat.")),
    "llava with a prompt": (
        ImagePrompt(b"i", "What?"),
        '{"description":"A cat."}',
        Description("A cat."),
    ),
    "chat about an image": (
        ImageTextToText(b"i", [user("What?")]),
        '{"description":"A cat."}',
        Description("A cat."),
    ),
    "moondream, a query": (
        ImageToText(b"i"),
        (
            '{"finish_reason":"stop","metrics":{"input_tokens":1,"output_tokens":1,"prefill_time_ms":1,'
            '"decode_time_ms":1,"ttft_ms":1},"answer":"A cat.","caption":null,"points":null,'
            '"objects":null,"reasoning":null}'
        ),
        Description("A cat.", finish_reason="stop"),
    ),
    "moondream, a caption": (
        ImageToText(b"i"),
        '{"finish_reason":"stop","answer":null,"caption":"A cat."}',
        Description("A cat.", finish_reason="stop"),
    ),
    "llama-3.2-vision": (
        ImageTextToText(b"i", [user("What?")]),
        '{"response":"A cat."}',
        Description("A cat."),
    ),
    "gemma about an image": (
        ImageToText(b"i"),
        '{"choices":[{"message":{"content":"A cat."},"finish_reason":"stop"}]}',
        Description("A cat.", finish_reason="stop"),
    ),
    "bge-reranker": (
        Rerank("q", ["a", "b"]),
        '{"response":[{"id":1,"score":0.9},{"id":0,"score":0.1}]}',
        Ranking((Ranked(1, 0.9, "b"), Ranked(0, 0.1, "a"))),
    ),
    "a rank beyond the documents": (
        Rerank("q", ["a"]),
        '{"response":[{"id":1,"score":0.9},{"id":-1,"score":0.1}]}',
        Ranking((Ranked(1, 0.9), Ranked(-1, 0.1))),
    ),
    # Open runs: the value as it is, whatever it is.
    "smart-turn": (
        OPEN,
        '{"is_complete":true,"probability":0.5}',
        Result({"is_complete": True, "probability": 0.5}),
    ),
    "points": (OPEN, '{"points":[{"x":0.5,"y":0.5}]}', Result({"points": [{"x": 0.5, "y": 0.5}]})),
    "null": (OPEN, "null", Result(None)),
    "a text": (OPEN, '"a"', Result("a")),
    "a number": (OPEN, "0", Result(0)),
    "nothing": (OPEN, "{}", Result({})),
    "an image": (OPEN, f'{{"image":"{PNG64}"}}', Image(PNG, "image/png")),
    "a sound": (OPEN, f'{{"audio":"{MP364}"}}', Audio(MP3, "audio/mpeg")),
    "an image's address": (OPEN, '{"image":"https://x"}', Result({"image": "https://x"})),
    "an image and more": (OPEN, '{"image":"","n":1}', Result({"image": "", "n": 1})),
}


@pytest.mark.parametrize(("task", "result", "says"), RESULTS.values(), ids=RESULTS)
def test_every_documented_result_is_read(
    task: Task[Any] | dict[str, Any], result: str, says: Answer
) -> None:
    """With the whole envelope, with a part of it, and without it."""
    read = read_task_answer(task, f'{{"result":{result},"success":true,"errors":[],"messages":[]}}')
    assert type(read) is type(says)
    assert read == says
    assert read.meta == Meta(status=200, ray_id="8f1a-AMS", media_type=JSON)
    assert read_task_answer(task, f'{{"result":{result}}}') == says
    assert read_task_answer(task, result) == says


def test_the_table_has_every_task() -> None:
    kinds = {type(task) for task, _, _ in RESULTS.values()} - {dict}
    assert kinds == {
        AutomaticSpeechRecognition, ImageClassification, ImagePrompt, ImageTextToText, ImageToText,
        MultimodalEmbeddings, ObjectDetection, Prompt, Rerank, SpeechSynthesis, Summarization,
        TextClassification, TextEmbeddings, TextGeneration, TextToImage, TextToSpeech, Translation,
    }  # fmt: skip


# Bytes


@pytest.mark.parametrize(
    ("task", "body", "kind", "says"),
    [
        # Output schemas: PNG of the stable diffusion models, JPEG of phoenix, MP3 of aura.
        (TextToImage("a"), PNG, "image/png", Image(PNG, "image/png")),
        (TextToImage("a"), JPEG, "image/jpeg", Image(JPEG, "image/jpeg")),
        (TextToImage("a"), JPEG, "Image/JPEG; q=1", Image(JPEG, "image/jpeg")),
        (TextToSpeech("a"), MP3, "audio/mpeg", Audio(MP3, "audio/mpeg")),
        (SpeechSynthesis("a"), b"RIFF", "audio/wav", Audio(b"RIFF", "audio/wav")),
        # No type, or one that says nothing: the bytes tell.
        (TextToImage("a"), PNG, None, Image(PNG, "image/png")),
        (TextToImage("a"), PNG, "application/octet-stream", Image(PNG, "image/png")),
        (
            SpeechSynthesis("a", encoding="linear16"),
            b"\0\1",
            "application/octet-stream",
            Audio(b"\0\1", "application/octet-stream"),
        ),
        # An open run takes what comes.
        (OPEN, PNG, "image/png", Image(PNG, "image/png")),
        (OPEN, MP3, "audio/mpeg", Audio(MP3, "audio/mpeg")),
        (OPEN, b"%PDF-", "application/pdf", Binary(b"%PDF-", "application/pdf")),
        (OPEN, JPEG, None, Image(JPEG, "image/jpeg")),
        (OPEN, b"a,b\n", "text/csv", Binary(b"a,b\n", "text/csv")),
    ],
)
def test_bytes_are_read_by_their_content_type(
    task: Task[Any] | dict[str, Any], body: bytes, kind: str | None, says: Answer
) -> None:
    """For the same task, some models answer with JSON and others with bytes."""
    read = read_task_answer(task, body, kind)
    assert type(read) is type(says)
    assert read == says
    assert read.raw is None
    assert read.meta.ray_id == "8f1a-AMS"


@pytest.mark.parametrize("kind", ["text/plain", "text/plain; charset=utf-8", "", None])
def test_json_without_a_content_type_is_json(kind: str | None) -> None:
    assert read_task_answer(Prompt("a"), '{"result":{"response":"Hi"}}', kind) == Text("Hi")
    assert read_task_answer(OPEN, "[1]", kind) == Result([1])


# Undocumented answers

WRONG: list[tuple[Task[Any] | dict[str, Any], str]] = [
    *[
        (task, result)
        for task in (TextClassification("a"), ImageClassification(b"i"), ObjectDetection(b"i"))
        for result in (
            "null", "{}", '""', '"a"', "6", '{"a":1}', "[null]", '["a"]', "[{}]", "[[]]",
            '[{"label":null,"score":1}]', '[{"label":"a","score":null}]',
            '[{"label":"a","score":"1"}]', '[{"label":"a","score":true}]',
            '[{"label":1,"score":1}]', '[{"label":"a","score":NaN}]',
            '[{"label":"a","score":Infinity}]',
        )
    ],
    (ObjectDetection(b"i"), '[{"label":"a","score":1,"box":null}]'),
    (ObjectDetection(b"i"), '[{"label":"a","score":1,"box":{"xmin":1,"ymin":1,"xmax":1}}]'),
    *[
        (task, result)
        for task, key in ((TextToImage("a"), "image"), (TextToSpeech("a"), "audio"))
        for result in (
            "null", "{}", "[]", "6", '""', f'{{"{key}":null}}', f'{{"{key}":""}}',
            f'{{"{key}":6}}', f'{{"{key}":[137,80]}}', f'{{"{key}":"not base64!"}}',
            f'{{"{key}":"ä"}}', f'{{"{key}":"AAA"}}', f'{{"{key}":"data:image/png;base64,"}}',
            f'{{"{key}":"data:nothing"}}',
        )
    ],
    *[
        (TextEmbeddings(["a", "b"]), result)
        for result in (
            "null", "{}", "[]", '"a"', "[[1],[2]]", '{"data":null}', '{"data":{}}',
            '{"data":[1,2]}', '{"data":[]}', '{"data":[[1]]}', '{"data":[[1],[2],[3]]}',
            '{"data":[[1],null]}', '{"data":[[1],["a"]]}', '{"data":[[1],[null]]}',
            '{"data":[[1],[[2]]]}', '{"data":[[1,2],[3]]}',
            '{"data":[[1],[2]],"shape":[1,2]}', '{"data":[[1],[2]],"shape":[2,2]}',
            '{"data":[[1],[NaN]]}', '{"data":[[1],[-Infinity]]}',
            '{"data":[[1],[2]],"shape":"2,1"}', '{"request_id":"x"}',
            '{"response":[{"id":0,"score":1},{"id":1,"score":1}]}', '{"data":[[],[]]}',
        )
    ],
    *[
        (AUDIO, result)
        for result in (
            "null", "{}", "[]", '"hi"', '{"text":null}', '{"text":6}', '{"text":["hi"]}',
            '{"text":NaN}', '{"results":null}', '{"results":{}}', '{"results":{"channels":[]}}',
            '{"results":{"channels":[{"alternatives":[]}]}}',
            '{"results":{"channels":[{"alternatives":[{"transcript":null}]}]}}',
        )
    ],
    *[(Prompt("a"), result) for result in ("null", "{}", "[]", '{"response":null}', "6")],
    *[
        (Translation("a", target_lang="fr"), result)
        for result in (
            "null", "{}", '"b"', '{"translated_text":null}', '{"translated_text":6}',
            '{"translations":[]}', '{"translations":[null]}', '{"translations":"b"}',
        )
    ],
    *[(Summarization("a"), result) for result in ("null", "{}", '"b"', '{"summary":null}')],
    *[
        (task, result)
        for task in (ImageToText(b"i"), ImagePrompt(b"i", "a"), ImageTextToText(b"i", [user("a")]))
        for result in (
            "null", "{}", '"b"', '{"description":null}', '{"description":6}', '{"answer":null}',
            '{"caption":null,"points":[]}', '{"response":null}',
        )
    ],
    *[
        (Rerank("q", ["a"]), result)
        for result in (
            "null", "{}", "[]", '{"response":null}', '{"response":{}}', '{"response":"a"}',
            '{"response":""}', '{"response":[{"id":0}]}', '{"response":[{"id":"0","score":1}]}',
            '{"response":[{"id":0.5,"score":1}]}', '{"response":[{"id":0,"score":null}]}',
        )
    ],
]  # fmt: skip


@pytest.mark.parametrize(("task", "result"), WRONG, ids=str)
def test_an_undocumented_answer_is_an_error_with_the_body(
    task: Task[Any] | dict[str, Any], result: str
) -> None:
    """Never an `AttributeError` or `KeyError`, the text "None" or an empty answer."""
    body = f'{{"result":{result},"success":true,"errors":[],"messages":[]}}'
    with pytest.raises(DecodeError) as caught:
        read_task_answer(task, body)
    assert caught.value.meta == Meta(status=200, ray_id="8f1a-AMS", media_type=JSON)
    assert caught.value.body
    assert str(caught.value)


TASKS: list[Task[Any] | dict[str, Any]] = [
    TextClassification("a"), TextToImage("a"), TextToSpeech("a"), TextEmbeddings("a"), AUDIO,
    Prompt("a"), Translation("a", target_lang="fr"), Summarization("a"), ImageToText(b"i"),
    Rerank("q", ["a"]), OPEN,
]  # fmt: skip


@pytest.mark.parametrize("task", TASKS, ids=repr)
@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", JSON),
        (b"", None),
        (b"", "text/plain"),
        (b"", "text/html"),
        (b"", "image/png"),
        (b"", "audio/mpeg"),
        (b"", "application/octet-stream"),
        (b"<html><body>Just a moment...</body></html>", "text/html; charset=UTF-8"),
        (b'{"result":', JSON),
        (b'{"result":{}', "text/plain"),
        (b"undefined", JSON),
        (PNG, JSON),
        (b'{"a":NaN', JSON),
        (b'{"a":NaN,"b":' + b"[" * 100_000, JSON),
        (b"[" * 2000, JSON),
    ],
)
def test_a_body_that_is_not_an_answer_is_a_typed_error(
    task: Task[Any] | dict[str, Any], body: bytes, kind: str | None
) -> None:
    """An empty body, half a document, a challenge page: with the facts of the response."""
    with pytest.raises(DecodeError) as caught:
        read_task_answer(task, body, kind)
    assert caught.value.body == body[:4096]
    assert caught.value.meta is not None
    assert caught.value.meta.ray_id == "8f1a-AMS"


@pytest.mark.parametrize(
    ("task", "body", "kind"),
    [
        (TextToImage("a"), MP3, "audio/mpeg"),
        (TextToImage("a"), MP3, "application/octet-stream"),
        (TextToImage("a"), b"upstream error", "text/plain"),
        (TextToImage("a"), b"%PDF-", "application/pdf"),
        (TextToSpeech("a"), PNG, "image/png"),
        (TextToSpeech("a"), b"upstream error", "text/plain"),
        (Prompt("a"), PNG, "image/png"),
        (Prompt("a"), b"Hello", "text/plain"),
        (Prompt("a"), b"Hello", None),
        (TextEmbeddings("a"), b"\0" * 16, "application/octet-stream"),
        (TextClassification("a"), MP3, "audio/mpeg"),
    ],
)
def test_bytes_of_another_type_are_an_error(task: Task[Any], body: bytes, kind: str | None) -> None:
    """The message names the Content-Type and the expected class."""
    with pytest.raises(DecodeError, match=f"expected {task.answer.__name__}, got") as caught:
        read_task_answer(task, body, kind)
    assert caught.value.body == body
    assert caught.value.meta is not None


@pytest.mark.parametrize("task", TASKS, ids=repr)
def test_a_refusal_is_an_error_for_every_task(task: Task[Any] | dict[str, Any]) -> None:
    """Under its own status, and as `success: false` under 200."""
    body = '{"result":null,"success":false,"errors":[{"code":5006,"message":"bad"}],"messages":[]}'
    for status in (200, 201, 400):
        with pytest.raises(BadRequest, match="bad"):
            read_task_answer(task, body, status=status)
    with pytest.raises(ServerError, match="502"):
        read_task_answer(task, b"<html>", "text/html", 502)
    with pytest.raises(ServerError):
        read_task_answer(task, PNG, "image/png", 500)
    with pytest.raises(StatusError, match="redirect"):
        read_task_answer(task, b"", None, 302)


def test_raw_is_the_result_without_the_vectors() -> None:
    """`raw` has unknown fields; the vectors would be in it as lists of Python floats."""
    read = read_task_answer(Prompt("a"), '{"result":{"response":"Hi","new":1},"success":true}')
    assert read.raw == {"response": "Hi", "new": 1}
    read = read_task_answer(TextEmbeddings("a"), '{"shape":[1,1],"data":[[1]],"new":1}')
    assert read.raw == {"shape": [1, 1], "new": 1}
    read = read_task_answer(TextEmbeddings("a"), '{"shape":[1,1],"response":[[1]]}')
    assert read.raw == {"shape": [1, 1]}
    read = read_task_answer(TextEmbeddings("a"), '{"response":[[1]],"pooling":"cls"}')
    assert read.raw == {"pooling": "cls"}
    assert read_task_answer(TextToImage("a"), f'{{"image":"{PNG64}"}}').raw is None
    assert read_task_answer(Rerank("q", ["a"]), '{"response":[]}').raw == {"response": []}


def test_a_ranking_is_sorted_best_first() -> None:
    """The service sends its rows in any order. Of equal scores, the first stays the first."""
    body = (
        '{"response":[{"id":2,"score":0.1},{"id":0,"score":0.9},{"id":3,"score":0.1},'
        '{"id":1,"score":0.5}],"usage":{"prompt_tokens":3,"completion_tokens":0,"total_tokens":3}}'
    )
    ranking = read_task_answer(Rerank("q", ["a", "b", "c", "d"]), body)
    assert isinstance(ranking, Ranking)
    assert [(row.id, row.text) for row in ranking] == [(0, "a"), (1, "b"), (2, "c"), (3, "d")]
    assert ranking.usage == Usage(3, 0, 3)


@pytest.mark.parametrize("task", [TextToImage("a"), OPEN], ids=repr)
def test_the_usage_beside_an_image_is_kept(task: Task[Any] | dict[str, Any]) -> None:
    usage = '{"prompt_tokens":3,"completion_tokens":0,"total_tokens":3,"neurons":4.5}'
    image = read_task_answer(task, f'{{"image":"{PNG64}","usage":{usage}}}')
    assert image == Image(PNG, "image/png", usage=Usage(3, 0, 3, neurons=4.5))
    image = read_task_answer(task, f'{{"image":"{PNG64}","usage":"free"}}')
    assert image == Image(PNG, "image/png")


@pytest.mark.parametrize(
    ("task", "body", "answer"),
    [
        (
            TextClassification("a"),
            '[{"label":"A","score":1},{"label":null,"score":1},null,{"score":1}]',
            Labels((Label("A", 1.0),)),
        ),
        (
            ObjectDetection(PNG),
            '[{"label":"A"},{"label":"A","score":1,"box":{"xmin":1,"ymin":2,"xmax":3,"ymax":4}}]',
            Detections((Detection("A", 1.0, Box(1, 2, 3, 4)),)),
        ),
        (
            Rerank("a", ["x", "y"]),
            '{"response":[{"id":0.5,"score":1},{"id":1,"score":0.5},{"id":0,"score":NaN}]}',
            Ranking((Ranked(1, 0.5, "y"),)),
        ),
    ],
)
def test_an_odd_row_is_skipped(task: Task[Any], body: str, answer: Answer) -> None:
    """`raw` has it. If no row can be read, the answer is an error."""
    result = json.loads(body)
    got = read_answer(answer_spec(task), response(f'{{"result":{body}}}'.encode()))
    assert got == answer
    assert repr(got.raw) == repr(result)


@pytest.mark.parametrize("number", [2**64, -(10**30), 12345678901234567890123])
def test_integers_of_any_size_stay_integers(number: int) -> None:
    """In the answer of a mapping, in a text that the service decoded, and in arguments."""
    body = b'{"result":{"a":[%d]}}' % number
    assert read_answer(answer_spec({"x": 1}), response(body)) == Result({"a": [number]})
    body = b'{"result":{"response":%d}}' % number
    assert read_answer(answer_spec(Prompt("a")), response(body)) == Text(str(number))
    body = b'{"result":{"tool_calls":[{"name":"f","arguments":"{\\"a\\":%d}"}]}}' % number
    text = read_answer(answer_spec(Prompt("a")), response(body))
    assert text == Text(tool_calls=(ToolCall("f", {"a": number}),))


@pytest.mark.parametrize(
    ("fields", "transcript"),
    [
        ('"word_count":2.5', Transcript("hi", word_count=2)),
        ('"word_count":"2"', Transcript("hi")),
        ('"word_count":NaN', Transcript("hi")),
        ('"word_count":2.0', Transcript("hi", word_count=2)),
        ('"vtt":6', Transcript("hi")),
        ('"transcription_info":"en"', Transcript("hi")),
        ('"transcription_info":{"duration":NaN}', None),
        ('"words":"hi"', Transcript("hi")),
        ('"words":{"a":1}', Transcript("hi")),
        ('"words":[{},{"word":null},6,{"word":"hi"}]', Transcript("hi", words=(Word("hi"),))),
        ('"segments":"hi"', Transcript("hi")),
        (
            '"segments":[1,{"text":["a"]},{"text":"a","start":"0"},{"text":"hi","words":[6]}]',
            Transcript("hi", segments=(Segment("hi"),)),
        ),
    ],
)
def test_a_transcript_is_not_lost_to_a_side_field(
    fields: str, transcript: Transcript | None
) -> None:
    """The field is missing, and `raw` has what the service sent."""
    read = read_task_answer(AUDIO, f'{{"text":"hi",{fields}}}')
    assert str(read) == "hi"
    assert transcript is None or read == transcript
    assert read.raw.keys() == {"text", fields.split('"')[1]}


def test_a_transcript_of_nova_is_not_lost_to_its_words() -> None:
    body = '{"results":{"channels":[{"alternatives":[{"transcript":"a","words":[6]}]}]}}'
    assert read_task_answer(AUDIO, body) == Transcript("a")


@pytest.mark.parametrize(
    ("task", "body", "answer"),
    [
        (Prompt("a"), rb'{"result":{"response":"Hi \ud83d"}}', Text("Hi \ufffd")),
        (AUDIO, rb'{"result":{"text":"Hi \udE00","vtt":""}}', Transcript("Hi \ufffd", vtt="")),
        (OPEN, rb'["\ud83d\ude00\ude00", "\\ud83d"]', Result(["\U0001f600\ufffd", r"\ud83d"])),
        (Prompt("a"), b'{"result":{"response":"Hi","score":NaN}}', Text("Hi")),
        (Prompt("a"), rb'{"response":"\ud83d","score":-Infinity}', Text("\ufffd")),
        (Prompt("a"), b'{"response":"\xff NaN","score":Infinity}', Text("\ufffd NaN")),
    ],
    ids=str,
)
def test_half_a_pair_and_nan_do_not_spoil_an_answer(
    task: Task[Any] | dict[str, Any], body: bytes, answer: Answer
) -> None:
    """JSON.stringify writes half a surrogate pair as an escape; Python's json writes NaN."""
    assert read_task_answer(task, body) == answer


WEATHER_SCHEMA = {"type": "object", "properties": {}}


@pytest.mark.parametrize(
    "tools",
    [
        [Tool("ip-info", "a", {})],
        [Function("ip-info", "a", {})],
        [{"name": "ip-info", "description": "a", "parameters": WEATHER_SCHEMA}],
        [
            {
                "type": "function",
                "function": {"name": "ip-info", "description": "a", "parameters": WEATHER_SCHEMA},
            }
        ],
    ],
    ids=repr,
)
def test_written_calls_of_the_tools_of_a_task_are_recovered(tools: Any) -> None:
    """Recorded of @cf/qwen/qwen2.5-coder-32b-instruct, with `tool_calls` empty."""
    body = (
        '{"result":{"response":{"name":"ip-info","arguments":{}},"tool_calls":[],"usage":'
        '{"prompt_tokens":265,"completion_tokens":13,"total_tokens":278}},"success":true}'
    )
    expected = Text(tool_calls=(ToolCall("ip-info", {}),), usage=Usage(265, 13, 278))
    task = TextGeneration([user("a")], tools=tools)
    read = read_task_answer(task, body)
    assert read == expected
    assert read.raw["response"] == {"name": "ip-info", "arguments": {}}
    assert read_whole_text(answer_spec(task), response(body)) == expected
    asked_openly = {"messages": [], "tools": tools, "stream": True}
    assert read_whole_text(answer_spec(asked_openly), response(body)) == expected
    assert not read_task_answer(TextGeneration([user("a")]), body).tool_calls  # type: ignore[attr-defined]


@pytest.mark.parametrize("tools", [None, "ip-info", 5, [5], [{}], [{"function": 5}], [{"name": 5}]])
def test_the_tools_of_a_mapping_may_be_anything(tools: Any) -> None:
    assert answer_spec({"tools": tools}).tools == frozenset()


def test_vectors_are_32_bit_floats_in_their_order() -> None:
    rows = [[float(row * 10 + column) for column in range(10)] for row in range(100)]
    body = dumps({"shape": [100, 10], "data": rows})
    read = read_task_answer(TextEmbeddings([str(row) for row in range(100)]), body)
    assert isinstance(read, Embeddings)
    assert read.shape == (100, 10)
    assert read.tolist() == rows
    assert read.buffer.itemsize == 4


def test_a_wrong_number_of_vectors_is_an_error_with_both_numbers() -> None:
    """If one were missing, every later text would get its neighbour's vector."""
    with pytest.raises(DecodeError, match="2 vectors came back for 3 texts"):
        read_task_answer(TextEmbeddings(["a", "b", "c"]), '{"data":[[1],[2]]}')


# JSON in response to a request for a stream


@pytest.mark.parametrize(
    "body",
    [
        # github.com/cloudflare/ai, stream-text.test.ts, "should retry without streaming": gpt-oss
        # and Kimi.
        '{"result":{},"success":true,"errors":[],"messages":[]}',
        '{"result":null,"success":true,"errors":[],"messages":[]}',
        '{"result":"","success":true}',
        "{}",
        "null",
    ],
)
def test_an_empty_result_instead_of_a_stream_is_an_error_that_suggests_run(body: str) -> None:
    with pytest.raises(StreamUnsupported, match=r"call run\(\)"):
        read_whole_text(answer_spec(Prompt("a")), response(body))


def test_a_whole_answer_instead_of_a_stream_is_its_text() -> None:
    """For every task: only texts are streamed as tokens."""
    body = '{"result":{"response":"{}"},"success":true}'
    for task in (Prompt("a"), OPEN, ImageToText(b"i")):
        read = read_whole_text(answer_spec(task), response(body))
        assert read == Text("{}")
        assert read.raw == {"response": "{}"}
        assert read.meta.ray_id == "8f1a-AMS"
    wanted = TextGeneration([user("a")], response_format="json_object")
    assert read_whole_text(answer_spec(wanted), response(body)).parsed == {}
    asked_openly = {"prompt": "a", "response_format": {"type": "json_object"}}
    assert read_whole_text(answer_spec(asked_openly), response(body)).parsed == {}


@pytest.mark.parametrize(
    ("body", "kind", "status", "error"),
    [
        (b"<html>", "text/html", 502, ServerError),
        (b'{"success":false,"errors":[{"code":5007,"message":"no"}]}', JSON, 200, BadRequest),
        (b"<html>", "text/html", 200, DecodeError),
        (b"", JSON, 200, DecodeError),
        (b"", None, 200, DecodeError),
        (PNG, "image/png", 200, DecodeError),
        (b"data: x\n\n", "text/plain", 200, DecodeError),
        (b'{"result":{"shape":[1,1]}}', JSON, 200, DecodeError),
        (b'{"result":[1]}', JSON, 200, DecodeError),
        (b'{"result":', JSON, 200, DecodeError),
    ],
)
def test_another_answer_instead_of_a_stream_is_a_typed_error(
    body: bytes, kind: str | None, status: int, error: type[CfaiError]
) -> None:
    with pytest.raises(error) as caught:
        read_described(read_whole_text, Prompt("a"), response(body, kind, status))
    assert caught.value.meta.ray_id == "8f1a-AMS"  # type: ignore[attr-defined]  # all have it


# A stream that was not requested (moondream3.1 streams unless `stream` is false)


def test_a_stream_that_was_not_requested_becomes_a_text_or_a_description() -> None:
    said = Text("A cat.", finish_reason="stop", meta=Meta(status=200))
    assert answer_from_text(answer_spec(Prompt("a")), said) is said
    read = answer_from_text(answer_spec(ImageToText(b"i")), said)
    assert read == Description("A cat.", finish_reason="stop")
    assert read.meta == Meta(status=200)
    with pytest.raises(DecodeError, match="expected Embeddings, got a stream"):
        answer_from_text(answer_spec(TextEmbeddings("a")), said)


# Hostile answers


@pytest.mark.parametrize("task", TASKS[:-1], ids=repr)
@pytest.mark.parametrize(
    "body",
    [
        f'{{"result":{{"said":"{TOKEN}"}}}}',
        f'{{"{TOKEN}":1}}',
        f'"{TOKEN}"',
        f'["{TOKEN}"]',
        f'[{{"label":6,"said":"{TOKEN}"}}]',
        f"broken {TOKEN}",
        "x" * 4080 + TOKEN,
    ],
)
def test_no_decode_error_repeats_a_secret(task: Task[Any], body: str) -> None:
    """A server that echoes its request does not get the token into a log."""
    for kind in (JSON, "text/html", "application/pdf", None):
        try:
            read_task_answer(task, body, kind)
        except DecodeError as error:
            redact_error(error, [TOKEN])
            shown = "".join(format_exception(error)) + f"{error!r} {error.body!r}"
            assert TOKEN[:16] not in shown


ANY: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-2, 2) | st.sampled_from(["", "a"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["result", "success", "errors", "label", "score", "box", "xmin", "image", "audio",
             "text", "data", "shape", "response", "pooling", "usage", "words", "word", "start",
             "segments",
             "results", "channels", "alternatives", "transcript", "vtt", "transcription_info",
             "translated_text", "translations", "summary", "description", "answer", "id", "choices"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(ANY, st.sampled_from(TASKS))
@settings(max_examples=400, deadline=None)
def test_any_json_is_an_answer_or_a_cfai_error(
    document: Any, task: Task[Any] | dict[str, Any]
) -> None:
    """An answer of the expected class, or an error of this package."""
    wanted = task.answer if isinstance(task, Task) else Answer
    try:
        read = read_task_answer(task, dumps(document))
        assert isinstance(read, wanted)
        read.to_dict()
    except CfaiError:
        pass
    with suppress(CfaiError):
        read_whole_text(answer_spec(task), response(dumps(document)))
