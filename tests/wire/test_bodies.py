"""The bodies of runs, byte for byte: JSON, raw bytes and forms, with media in every form."""

import json
import math
import re
import tracemalloc
from base64 import b64encode
from collections.abc import Mapping
from email.parser import BytesParser
from email.policy import HTTP
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from cfai._wire.bodies import BodyParts, EncodedBody, encode_run_body
from cfai.errors import InputError
from cfai.media import Base64, Integers, MediaForm
from cfai.tasks import (
    AutomaticSpeechRecognition,
    ImageClassification,
    ImagePart,
    ImagePrompt,
    ImageTextToText,
    ImageToText,
    MultimodalEmbeddings,
    ObjectDetection,
    Prompt,
    Rerank,
    SpeechSynthesis,
    Summarization,
    Task,
    TextClassification,
    TextEmbeddings,
    TextGeneration,
    TextPart,
    TextToImage,
    TextToSpeech,
    Tool,
    ToolCall,
    Translation,
    assistant,
    system,
    tool_result,
    user,
)

PNG = b"\x89PNG\r\n\x1a\n\x00\xff"
PNG64 = b64encode(PNG).decode()
MP3 = b"ID3\x04\xff"
MP364 = b64encode(MP3).decode()
OTHER = "@cf/some/new-model"


def bytes_of(body: EncodedBody) -> bytes:
    return body.content if isinstance(body.content, bytes) else b"".join(body.content)


def encode(
    task: Task[Any] | Mapping[str, Any], model: str = OTHER, added: Mapping[str, Any] | None = None
) -> EncodedBody:
    return encode_run_body(model, task, added or {})


# JSON: Workers AI API, "Execute AI model", one of each input.


@pytest.mark.parametrize(
    ("task", "body"),
    [
        (TextClassification("Grüezi"), '{"text":"Grüezi"}'),
        (
            TextToImage(
                "a", height=256, width=2048, num_steps=20, strength=0.5, seed=1, guidance=7
            ),
            (
                '{"prompt":"a","guidance":7,"height":256,"num_steps":20,"seed":1,"strength":0.5,'
                '"width":2048}'
            ),
        ),
        (TextToSpeech("a", lang="fr"), '{"prompt":"a","lang":"fr"}'),
        (TextEmbeddings("a"), '{"text":"a"}'),
        (TextEmbeddings(["a", "b"], pooling="cls"), '{"text":["a","b"],"pooling":"cls"}'),
        (
            Prompt("a", max_tokens=5, temperature=0.0, raw=True, lora="mine"),
            '{"prompt":"a","lora":"mine","max_tokens":5,"raw":true,"temperature":0.0}',
        ),
        (
            Prompt("a", response_format={"type": "object"}),
            '{"prompt":"a","response_format":{"type":"json_schema","json_schema":{"type":"object"}}}',
        ),
        (
            TextGeneration(
                [system("Be brief."), user("Hi"), assistant("Ho"), tool_result({"a": 1}, "c1")]
            ),
            (
                '{"messages":[{"role":"system","content":"Be brief."},'
                '{"role":"user","content":"Hi"},'
                '{"role":"assistant","content":"Ho"},'
                '{"role":"tool","content":"{\\"a\\": 1}","tool_call_id":"c1"}]}'
            ),
        ),
        (
            Translation("a", target_lang="fr", source_lang="en"),
            '{"text":"a","target_lang":"fr","source_lang":"en"}',
        ),
        (Summarization("a", max_length=10), '{"input_text":"a","max_length":10}'),
        (Rerank("q", ["a"], top_k=1), '{"query":"q","contexts":[{"text":"a"}],"top_k":1}'),
        (
            SpeechSynthesis("a", speaker="luna", encoding="mp3"),
            '{"text":"a","speaker":"luna","encoding":"mp3"}',
        ),
        (MultimodalEmbeddings(text=["a"]), '{"text":["a"]}'),
        (
            Prompt("a", extra={"guided_json": {"x": [None]}}),
            '{"prompt":"a","guided_json":{"x":[null]}}',
        ),
        ({"any": ["thing", 1, None, True, 0.5]}, '{"any":["thing",1,null,true,0.5]}'),
        ({}, "{}"),
    ],
)
def test_a_task_without_media_is_compact_json(task: Any, body: str) -> None:
    """Omitted fields are not sent: the service's own defaults apply."""
    sent = encode(task)
    assert sent.content_type == "application/json"
    assert sent.query == {}
    assert json.loads(bytes_of(sent)) == json.loads(body)
    assert len(bytes_of(sent)) == len(body.encode())


def test_the_client_adds_its_own_fields() -> None:
    assert bytes_of(encode(Prompt("a"), added={"stream": True})) == b'{"prompt":"a","stream":true}'
    assert bytes_of(encode({"stream": False}, added={"stream": True})) == b'{"stream":true}'


@pytest.mark.parametrize(
    "task",
    [
        {"a": object()},
        {"a": b"bytes"},
        {"a": {1: 2}},
        {"a": "\ud800"},
        {"a": 2**64},
        {"a": 1j},
        {1: "a"},
        Prompt("\ud800"),
        Prompt("a", extra={"a": {b"x": 1}}),
    ],
)
def test_a_value_that_is_not_json_is_refused(task: Any) -> None:
    """The message names it, and nothing is sent."""
    with pytest.raises(InputError, match="must consist of JSON values"):
        encode(task)


TURN = {"role": "user", "content": "null"}


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({"temperature": math.nan}, "temperature must be a finite number, got nan"),
        ({"a": [0.5, {"b": (None, -math.inf)}]}, "a[1].b[1] must be a finite number, got -inf"),
        (Prompt("a", extra={"a": math.nan}), "a must be a finite number, got nan"),
        (
            Prompt("a", response_format={"type": "number", "minimum": math.inf}),
            "response_format.json_schema.minimum must be a finite number, got inf",
        ),
        (
            TextGeneration([TURN], tools=[Tool("t", "d", {"n": {"maximum": math.inf}})]),
            "tools[0].parameters.properties.n.maximum must be a finite number, got inf",
        ),
        (
            ImageToText(PNG, extra={"a": [math.nan]}),
            "a[0] must be a finite number, got nan",
        ),
    ],
)
def test_a_number_that_is_not_finite_is_refused_by_name(task: Any, said: str) -> None:
    """It would be sent as null, and the service would use its default."""
    with pytest.raises(InputError) as caught:
        encode(task)
    assert str(caught.value) == said


def test_a_number_that_is_not_finite_is_refused_in_queries_and_forms() -> None:
    task = AutomaticSpeechRecognition(MP3, extra={"utt_split": math.nan})
    with pytest.raises(InputError, match=r"^utt_split must be a finite number, got nan$"):
        encode(task, "@cf/deepgram/nova-3")
    with pytest.raises(InputError, match=r"^guidance must be a finite number, got inf$"):
        encode({"prompt": "a", "guidance": math.inf}, "@cf/black-forest-labs/flux-2-dev")


def test_an_explicit_null_is_sent() -> None:
    """And so is the word null inside a text."""
    assert bytes_of(encode({"a": None, "b": [None]})) == b'{"a":null,"b":[null]}'
    assert bytes_of(encode(TextGeneration([TURN]))) == (
        b'{"messages":[{"role":"user","content":"null"}]}'
    )


# Media: form, model, task, Content-Type and body.

OCTETS = "application/octet-stream"
PNG_URI = f"data:image/png;base64,{PNG64}"
INTEGERS = "[137, 80, 78, 71, 13, 10, 26, 10, 0, 255]"

MEDIA: dict[str, tuple[str, Task[Any], str, str | bytes]] = {
    # The API page: integers for these three, and for any model that nothing else is known of.
    "integers": (OTHER, ImageClassification(PNG), "application/json", f'{{"image":{INTEGERS}}}'),
    "integers and options": (
        OTHER,
        ImageToText(PNG, prompt="What?", max_tokens=5),
        "application/json",
        f'{{"image":{INTEGERS},"prompt":"What?","max_tokens":5}}',
    ),
    # The models' own schemas: raw bytes, or integers beside other fields. Cloudflare's OpenAPI
    # document of August 2024 has these under application/octet-stream only.
    "whisper": ("@cf/openai/whisper", AutomaticSpeechRecognition(MP3), OCTETS, MP3),
    "whisper-tiny": ("@cf/openai/whisper-tiny-en", AutomaticSpeechRecognition(MP3), OCTETS, MP3),
    "resnet": ("@cf/microsoft/resnet-50", ImageClassification(PNG), OCTETS, PNG),
    "detr": ("@cf/facebook/detr-resnet-50", ObjectDetection(PNG), OCTETS, PNG),
    "llava alone": ("@cf/llava-hf/llava-1.5-7b-hf", ImageToText(PNG), OCTETS, PNG),
    # Cloudflare docs, DeepgramNova.astro: the real type.
    "nova-3": ("@cf/deepgram/nova-3", AutomaticSpeechRecognition(MP3), "audio/mpeg", MP3),
    "unknown bytes": (
        "@cf/openai/whisper",
        AutomaticSpeechRecognition(b"\0\1"),
        "application/octet-stream",
        b"\0\1",
    ),
    "whisper with a language": (
        "@cf/openai/whisper",
        AutomaticSpeechRecognition(PNG, source_lang="en"),
        "application/json",
        f'{{"audio":{INTEGERS},"source_lang":"en"}}',
    ),
    "llava": (
        "@cf/llava-hf/llava-1.5-7b-hf",
        ImageToText(PNG, prompt="What?"),
        "application/json",
        f'{{"image":{INTEGERS},"prompt":"What?"}}',
    ),
    # The models' own schemas: base64.
    "whisper-large-v3-turbo": (
        "@cf/openai/whisper-large-v3-turbo",
        AutomaticSpeechRecognition(MP3, source_lang="en"),
        "application/json",
        f'{{"audio":"{MP364}","language":"en"}}',
    ),
    "nemotron-speech": (
        "@cf/nvidia/nemotron-speech-streaming-en-0.6b",
        AutomaticSpeechRecognition(MP3),
        "application/json",
        f'{{"audio":"{MP364}"}}',
    ),
    # Its own schema: a data URI, a question, and `stream`, which is true by default.
    "moondream": (
        "@cf/moondream/moondream3.1-9B-A2B",
        ImageToText(PNG, prompt="What?", max_tokens=5),
        "application/json",
        f'{{"stream":false,"question":"What?","max_tokens":5,"image":"{PNG_URI}"}}',
    ),
    "moondream, base64 given": (
        "@cf/moondream/moondream3.1-9B-A2B",
        ImagePrompt(Base64(PNG64), "What?"),
        "application/json",
        f'{{"stream":false,"question":"What?","image":"{PNG_URI}"}}',
    ),
    "moondream, open fields": (
        "@cf/moondream/moondream3.1-9B-A2B",
        ImageToText(PNG, extra={"task": "caption", "stream": True, "seed": 1}),
        "application/json",
        f'{{"stream":true,"task":"caption","seed":1,"image":"{PNG_URI}"}}',
    ),
    # The API page: base64 for these.
    "image and prompt": (
        OTHER,
        ImagePrompt(PNG, "What?"),
        "application/json",
        f'{{"image":"{PNG64}","prompt":"What?"}}',
    ),
    "image and messages": (
        OTHER,
        ImageTextToText(PNG, [user("What?")]),
        "application/json",
        f'{{"image":"{PNG64}","messages":[{{"role":"user","content":"What?"}}]}}',
    ),
    "multimodal": (
        OTHER,
        MultimodalEmbeddings(image=PNG, text=["a"]),
        "application/json",
        f'{{"image":"{PNG64}","text":["a"]}}',
    ),
    # The schema of the stable diffusion models: `image_b64`, and integers for the mask.
    "inpainting": (
        "@cf/runwayml/stable-diffusion-v1-5-inpainting",
        TextToImage("a", image=PNG, mask=b"\0\1"),
        "application/json",
        f'{{"prompt":"a","image_b64":"{PNG64}","mask":[0,1]}}',
    ),
    # What the user says overrules what is known.
    "integers by wish": (
        "@cf/openai/whisper",
        AutomaticSpeechRecognition(PNG, media_form=MediaForm.INTEGERS),
        "application/json",
        f'{{"audio":{INTEGERS}}}',
    ),
    "base64 by wish": (
        "@cf/openai/whisper",
        AutomaticSpeechRecognition(PNG, media_form="base64"),  # type: ignore[arg-type]  # or its name
        "application/json",
        f'{{"audio":"{PNG64}"}}',
    ),
    "raw by wish": (
        OTHER,
        ImageClassification(PNG, media_form=MediaForm.RAW),
        "image/png",
        PNG,
    ),
    "base64 given": (OTHER, ImagePrompt(Base64(PNG64), "a"), "application/json",
                     f'{{"image":"{PNG64}","prompt":"a"}}'),
    "base64 given, integers wanted": (
        OTHER,
        ImageClassification(Base64(PNG64)),
        "application/json",
        f'{{"image":{INTEGERS}}}',
    ),
}  # fmt: skip


@pytest.mark.parametrize(("model", "task", "kind", "body"), MEDIA.values(), ids=MEDIA)
def test_media_are_sent_in_the_form_that_the_model_takes(
    model: str, task: Task[Any], kind: str, body: str | bytes
) -> None:
    sent = encode(task, model)
    assert sent.content_type == kind
    assert len(sent.content) == len(bytes_of(sent))
    if isinstance(body, bytes):
        assert bytes_of(sent) == body
        assert sent.query == {}
    else:
        assert json.loads(bytes_of(sent)) == json.loads(body)


def test_integers_are_encoded_byte_for_byte() -> None:
    """Each byte takes four characters, so the length is known before the first one is written."""
    sent = encode(ImageToText(b"\x00\x09\x63\xff", prompt="a"))
    assert bytes_of(sent) == b'{"prompt":"a","image":[  0,  9, 99,255]}'


def test_options_of_nova_3_go_into_the_query() -> None:
    """Cloudflare docs, DeepgramNova.astro: raw audio of its own type, options in the query."""
    task = AutomaticSpeechRecognition(
        MP3,
        source_lang="en",
        extra={"detect_language": True, "keywords": ["a&b", "ü"], "utt_split": 0.5},
    )
    sent = encode(task, "@cf/deepgram/nova-3")
    assert (sent.content_type, bytes_of(sent)) == ("audio/mpeg", MP3)
    assert sent.query == {
        "language": "en",
        "detect_language": "true",
        "keywords": '["a&b","ü"]',
        "utt_split": "0.5",
    }


# The model's own names of the fields. Source: the models' input schemas.

RENAMED: dict[str, tuple[str, Task[Any], dict[str, Any]]] = {
    "indictrans2": (
        "@cf/ai4bharat/indictrans2-en-indic-1B",
        Translation("a", "hin_Deva"),
        {"text": "a", "target_language": "hin_Deva"},
    ),
    "m2m100": (
        "@cf/meta/m2m100-1.2b",
        Translation("a", "fr", source_lang="en"),
        {"text": "a", "target_lang": "fr", "source_lang": "en"},
    ),
    "flux-1": (
        "@cf/black-forest-labs/flux-1-schnell",
        TextToImage("a", num_steps=4, seed=1),
        {"prompt": "a", "steps": 4, "seed": 1},
    ),
    "aura": ("@cf/deepgram/aura-1", TextToSpeech("a"), {"text": "a"}),
    "melotts": ("@cf/myshell-ai/melotts", SpeechSynthesis("a"), {"prompt": "a"}),
    "phoenix": (
        "@cf/leonardo/phoenix-1.0",
        TextToImage("a", negative_prompt="b", extra={"image": "c"}),
        {"prompt": "a", "negative_prompt": "b", "image": "c"},
    ),
}


@pytest.mark.parametrize(("model", "task", "fields"), RENAMED.values(), ids=RENAMED)
def test_fields_are_sent_under_the_names_of_the_model(
    model: str, task: Task[Any], fields: dict[str, Any]
) -> None:
    assert json.loads(bytes_of(encode(task, model))) == fields


@pytest.mark.parametrize(
    ("model", "task", "name"),
    [
        ("@cf/leonardo/phoenix-1.0", TextToImage("a", image=PNG), "image"),
        ("@cf/leonardo/phoenix-1.0", TextToImage("a", image_b64=PNG64), "image_b64"),
        ("@cf/leonardo/lucid-origin", TextToImage("a", mask=PNG), "mask"),
        ("@cf/leonardo/lucid-origin", TextToImage("a", negative_prompt="b"), "negative_prompt"),
        ("@cf/black-forest-labs/flux-1-schnell", TextToImage("a", width=512), "width"),
        (
            "@cf/ai4bharat/indictrans2-en-indic-1B",
            Translation("a", "hin_Deva", source_lang="eng_Latn"),
            "source_lang",
        ),
        (
            "@cf/openai/whisper-large-v3-turbo",
            AutomaticSpeechRecognition(MP3, target_lang="en"),
            "target_lang",
        ),
        ("@cf/deepgram/nova-3", AutomaticSpeechRecognition(MP3, target_lang="en"), "target_lang"),
        ("@cf/deepgram/aura-2-en", TextToSpeech("a", lang="en"), "lang"),
        ("@cf/moondream/moondream3.1-9B-A2B", ImageToText(PNG, seed=1), "seed"),
        (
            "@cf/moondream/moondream3.1-9B-A2B",
            ImageTextToText(PNG, [user("What?")]),
            "messages",
        ),
    ],
)
def test_a_field_that_the_model_does_not_have_is_refused(
    model: str, task: Task[Any], name: str
) -> None:
    with pytest.raises(InputError, match=f"^{name} must be left out: {model} has no such field"):
        encode(task, model)


def test_a_renamed_field_is_not_repeated_in_extra() -> None:
    task = Translation("a", "hin_Deva", extra={"target_language": "tam_Taml"})
    with pytest.raises(InputError, match="extra must not repeat target_language"):
        encode(task, "@cf/ai4bharat/indictrans2-en-indic-1B")


# Messages


@pytest.mark.parametrize(
    ("message", "content"),
    [
        (user("a", "b"), "a\nb"),
        (user(TextPart("a")), "a"),
        ({"role": "user", "content": [{"type": "text", "text": "a"}]}, "a"),
        ({"role": "tool", "content": [{"text": "a"}, "b"]}, "a\nb"),
        ({"role": "user", "content": []}, []),
        (
            user("a", ImagePart("https://example.com/a.png")),
            [
                {"type": "text", "text": "a"},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
            ],
        ),
        (
            {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {}}]},
            [{"type": "text", "text": "a", "cache_control": {}}],
        ),
    ],
)
def test_parts_that_are_all_text_are_sent_as_one_text(message: Any, content: Any) -> None:
    """Otherwise most models answer 400 (code 5006): 'array' not in 'string'."""
    for task in (
        TextGeneration([user("first"), message]),
        ImageTextToText(PNG, [user("first"), message]),
    ):
        messages = json.loads(bytes_of(encode(task)))["messages"]
        assert [one["content"] for one in messages] == ["first", content]


def test_the_messages_of_a_mapping_are_sent_unchanged() -> None:
    fields = {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}
    assert json.loads(bytes_of(encode(fields))) == fields


def test_raw_media_with_other_fields_are_refused() -> None:
    """Otherwise the prompt would be lost silently."""
    with pytest.raises(InputError, match="media_form must not be raw"):
        encode(ImageToText(PNG, prompt="What?", media_form=MediaForm.RAW))


@pytest.mark.parametrize("model", ["@cf/openai/whisper", "@cf/deepgram/nova-3", OTHER])
def test_media_that_cannot_be_read_is_refused(model: str, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for source in (tmp_path / "missing", tmp_path / "empty", tmp_path):
        with pytest.raises(InputError, match="media"):
            encode(AutomaticSpeechRecognition(source), model)


def test_a_file_is_read_again_for_every_request(tmp_path: Path) -> None:
    """A task is a value: it can be sent to many models."""
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    for source in (path, str(path)):
        task = ImageClassification(source)
        for model in ("@cf/microsoft/resnet-50", "@cf/microsoft/resnet-50"):
            assert bytes_of(encode(task, model)) == PNG
    with path.open("rb") as file:
        task = ImageClassification(file)
        assert bytes_of(encode(task, "@cf/microsoft/resnet-50")) == PNG
        assert bytes_of(encode(task, "@cf/microsoft/resnet-50")) == PNG


# Forms

FLUX2 = "@cf/black-forest-labs/flux-2-dev"


def parts(body: EncodedBody) -> dict[str, tuple[str | None, str, bytes]]:
    """A form, read by Python's own parser: name -> file name, Content-Type, data."""
    head = f"Content-Type: {body.content_type}\r\n\r\n".encode()
    message = BytesParser(policy=HTTP).parsebytes(head + bytes_of(body))
    assert message.is_multipart()
    assert not message.defects
    found = {}
    for part in message.iter_parts():
        name = str(part.get_param("name", header="content-disposition"))
        data = part.get_payload(decode=True)
        assert isinstance(data, bytes)
        found[name] = (part.get_filename(), part.get_content_type(), data)
    return found


def test_a_form_byte_for_byte() -> None:
    """RFC 7578. github.com/cloudflare/cloudflare-docs, Flux-2.astro: fields, then files."""
    sent = encode(TextToImage("ä cat", width=512, image=PNG), FLUX2)
    found = re.fullmatch(r"multipart/form-data; boundary=([A-Za-z0-9-]{20,70})", sent.content_type)
    assert found
    boundary = found[1].encode()
    assert bytes_of(sent) == (
        b"--" + boundary + b'\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n'
        b"\xc3\xa4 cat\r\n"
        b"--" + boundary + b'\r\nContent-Disposition: form-data; name="width"\r\n\r\n512\r\n'
        b"--" + boundary + b'\r\nContent-Disposition: form-data; name="input_image_0"; '
        b'filename="input_image_0"\r\n'
        b"Content-Type: image/png\r\n\r\n" + PNG + b"\r\n"
        b"--" + boundary + b"--\r\n"
    )


def test_every_form_has_its_own_boundary() -> None:
    assert (
        encode(TextToImage("a"), FLUX2).content_type != encode(TextToImage("a"), FLUX2).content_type
    )


def test_a_task_without_media_is_a_form_for_a_model_that_takes_forms() -> None:
    """Flux 2 answers 400 (code 5006) to any JSON."""
    sent = encode(TextToImage("a", extra={"steps": 25}), FLUX2)
    assert parts(sent) == {
        "prompt": (None, "text/plain", b"a"),
        "steps": (None, "text/plain", b"25"),
    }


def test_a_mapping_is_a_form_for_a_model_that_takes_forms() -> None:
    fields = {"prompt": "a", "image": PNG, "more": memoryview(MP3), "on": True, "list": [1]}
    assert parts(encode(fields, FLUX2)) == {
        "prompt": (None, "text/plain", b"a"),
        "on": (None, "text/plain", b"true"),
        "list": (None, "text/plain", b"[1]"),
        "image": ("image", "image/png", PNG),
        "more": ("more", "audio/mpeg", MP3),
    }


def test_names_in_a_form_are_escaped() -> None:
    """A quote or a line end in a name (RFC 7578, section 2; WHATWG, "multipart")."""
    sent = encode({'a"\r\nX-Evil: 1\r\n\r\n': "b", "c\r\n--x": "--d--\r\n"}, FLUX2)
    assert b"\r\nX-Evil" not in bytes_of(sent)
    assert parts(sent) == {
        "a%22%0D%0AX-Evil: 1%0D%0A%0D%0A": (None, "text/plain", b"b"),
        "c%0D%0A--x": (None, "text/plain", b"--d--\r\n"),
    }


@pytest.mark.parametrize(
    "task", [{"a": "\ud800"}, {"a": object()}, {"\ud800": "a"}, TextToImage("\ud800")]
)
def test_text_that_a_form_cannot_encode_is_refused(task: Any) -> None:
    with pytest.raises(InputError):
        encode(task, FLUX2)


def test_text_that_a_query_cannot_encode_is_refused() -> None:
    with pytest.raises(InputError):
        encode(AutomaticSpeechRecognition(MP3, source_lang="\ud800"), "@cf/deepgram/nova-3")


# Size


@given(st.binary(min_size=1, max_size=300), st.text(max_size=5))
def test_the_length_is_known_before_a_byte_is_written(data: bytes, prompt: str) -> None:
    """The parts are the same at every attempt."""
    sent = encode(ImageToText(data, prompt=prompt))
    assert isinstance(sent.content, BodyParts)
    first, second = list(sent.content), list(sent.content)
    assert first == second
    assert len(sent.content) == sum(map(len, first))
    assert json.loads(b"".join(first)) == {"image": list(data), "prompt": prompt}


def test_large_media_are_never_in_memory_as_integers_at_once() -> None:
    """A megabyte of audio is 4 MB of JSON, of which one part is in memory at a time."""
    data = bytes(range(256)) * 4096
    tracemalloc.start()
    try:
        sent = encode(AutomaticSpeechRecognition(data, source_lang="en"), "@cf/openai/whisper")
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        assert sum(map(len, sent.content)) == len(sent.content)  # type: ignore[arg-type]
        assert tracemalloc.get_traced_memory()[1] - before < 2_000_000
    finally:
        tracemalloc.stop()
    assert len(sent.content) > 4 * len(data)


def test_the_repr_of_a_body_does_not_show_its_content() -> None:
    assert "137" not in repr(BodyParts((b"137", Integers(PNG))))
    assert "private" not in repr(encode(Prompt("private")))


SCHEMA = {"type": "object"}
CALLED = assistant(tool_calls=[ToolCall("add", {"a": 1}, "c1"), ToolCall("é", "{}", "c2")])


@pytest.mark.parametrize(
    ("model", "asked", "sent"),
    [
        # github.com/cloudflare/langchain-cloudflare, MODEL_BEHAVIORS: Mistral's own field.
        ("@cf/mistralai/mistral-small-3.1-24b-instruct", SCHEMA, {"guided_json": SCHEMA}),
        ("@cf/mistral/mistral-7b-instruct-v0.2-lora", SCHEMA, {"guided_json": SCHEMA}),
        (
            "@cf/mistral/mistral-7b-instruct-v0.2-lora",
            "json_object",
            {"response_format": {"type": "json_object"}},
        ),
        (
            "@cf/deepseek-ai/deepseek-r1-distill-qwen-32b",
            SCHEMA,
            {"response_format": {"type": "json_schema", "json_schema": SCHEMA}},
        ),
        (
            "dynamic/mistral",
            SCHEMA,
            {"response_format": {"type": "json_schema", "json_schema": SCHEMA}},
        ),
    ],
)
def test_a_schema_goes_into_the_field_that_the_model_family_reads(
    model: str, asked: Any, sent: Any
) -> None:
    body = encode_run_body(model, Prompt("a", response_format=asked), {})
    assert json.loads(bytes_of(body)) == {"prompt": "a", **sent}


@pytest.mark.parametrize(
    ("model", "content"),
    [
        (
            "@cf/meta/llama-3.3-70b-instruct-fp8-fast",
            '{"name": "add", "parameters": {"a": 1}}\n{"name": "é", "parameters": {}}',
        ),
        ("@cf/meta-llama/llama-2-7b-chat-hf-lora", '{"name": "add", '),
        ("@cf/qwen/qwen3-30b-a3b-fp8", ""),
        ("@cf/deepseek-ai/deepseek-r1-distill-llama-70b", ""),
    ],
)
def test_llama_gets_its_calls_as_text(model: str, content: str) -> None:
    """Otherwise it does not continue from the results. A turn with other text is left alone."""
    spoken = assistant("I look.", tool_calls=[ToolCall("add", {}, "c3")])
    body = encode_run_body(model, TextGeneration([user("a"), CALLED, spoken]), {})
    messages = json.loads(bytes_of(body))["messages"]

    assert messages[1]["content"].startswith(content)
    assert bool(messages[1]["content"]) == bool(content)
    assert [one["id"] for one in messages[1]["tool_calls"]] == ["c1", "c2"]
    assert messages[2]["content"] == "I look."


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("@cf/google/gemma-4-26b-a4b-it", ["enable_thinking"]),
        ("@cf/zai-org/glm-4.7-flash", ["enable_thinking"]),
        ("@cf/zai-org/glm-5.2", ["enable_thinking"]),
        ("@cf/qwen/qwen3.8-27b", ["enable_thinking"]),
        ("@cf/qwen/qwen3-30b-a3b-fp8", ["enable_thinking"]),
        ("@cf/deepseek-ai/deepseek-v4-pro-0813", ["enable_thinking"]),
        ("@cf/nvidia/nemotron-3-120b-a12b", ["enable_thinking"]),
        ("@cf/moonshotai/kimi-k2.6", ["thinking", "enable_thinking"]),
    ],
)
@pytest.mark.parametrize("thinking", [False, True])
def test_thinking_is_switched_in_the_way_of_the_family(
    model: str, names: list[str], thinking: bool
) -> None:
    """In the options of the chat template. Source: the models' types; changelog of 2026-04-20."""
    written = ",".join(f'"{name}":{json.dumps(thinking)}' for name in names)
    prompt = Prompt("Hi", thinking=thinking)
    expected = f'{{"prompt":"Hi","chat_template_kwargs":{{{written}}}}}'
    assert bytes_of(encode(prompt, model)).decode() == expected
    chat = TextGeneration(
        [user("Hi")], thinking=thinking, chat_template_kwargs={"clear_thinking": False}
    )
    expected = (
        '{"messages":[{"role":"user","content":"Hi"}],'
        f'"chat_template_kwargs":{{"clear_thinking":false,{written}}}}}'
    )
    assert json.loads(bytes_of(encode(chat, model))) == json.loads(expected)
    chat = TextGeneration(
        [user("Hi")], thinking=thinking, extra={"chat_template_kwargs": {"clear_thinking": False}}
    )
    assert json.loads(bytes_of(encode(chat, model))) == json.loads(expected)
    clash = TextGeneration(
        [user("Hi")], thinking=thinking, chat_template_kwargs={names[0]: thinking}
    )
    with pytest.raises(InputError, match=f"chat_template_kwargs must not repeat {names[0]}"):
        encode(clash, model)


@pytest.mark.parametrize(
    "model",
    [
        "@cf/openai/gpt-oss-120b",
        "@cf/openai/gpt-oss-20b",
        "@cf/moonshotai/kimi-k2.7-code",
        "@cf/zai-org/glm-5.3",
        "@cf/zai-org/glm-5.3-flash",
    ],
)
def test_models_that_always_think_refuse_to_be_told_not_to(model: str) -> None:
    """Source: the models' types, "Reasoning is always enabled"."""
    with pytest.raises(InputError, match=f"thinking must not be false for {model}, which always"):
        encode(Prompt("Hi", thinking=False), model)
    assert bytes_of(encode(Prompt("Hi", thinking=True), model)) == b'{"prompt":"Hi"}'


@pytest.mark.parametrize(
    "model",
    [OTHER, "@cf/meta/llama-3.1-8b-instruct-fast", "openai/gpt-4.1", "dynamic/gemma-4", "qwen3"],
)
@pytest.mark.parametrize("thinking", [False, True])
def test_thinking_is_refused_for_other_models(model: str, thinking: bool) -> None:
    """It would be ignored, or refused by the service."""
    with pytest.raises(InputError, match=f"thinking must not be set for {model}: it is not known"):
        encode(Prompt("Hi", thinking=thinking), model)


def test_a_field_that_is_called_thinking_is_sent_unchanged() -> None:
    """Models of other providers have one."""
    task = Prompt("Hi", extra={"thinking": {"type": "disabled"}})
    expected = b'{"prompt":"Hi","thinking":{"type":"disabled"}}'
    for model in (OTHER, "@cf/google/gemma-4-26b-a4b-it"):
        assert bytes_of(encode(task, model)) == expected


def test_options_of_a_stream_are_sent_only_with_a_stream() -> None:
    """One task can be run and streamed."""
    task = Prompt("Hi", stream_options={"include_usage": True})
    assert bytes_of(encode(task)) == b'{"prompt":"Hi"}'
    assert bytes_of(encode(task, added={"stream": False})) == b'{"prompt":"Hi","stream":false}'
    expected = b'{"prompt":"Hi","stream_options":{"include_usage":true},"stream":true}'
    assert bytes_of(encode(task, added={"stream": True})) == expected
