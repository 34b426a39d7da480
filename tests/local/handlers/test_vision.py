"""Runs with images, in the exact format of the service: every form of the field, and refusals."""

import base64
import io
from typing import Any

import pytest
from PIL import Image

from cfai import (
    ImageClassification,
    ImageToText,
    MultimodalEmbeddings,
    ObjectDetection,
    WorkersAI,
)
from cfai.local.backends import wordpiece
from tests.local.conftest import Local
from tests.local.pictures import photo, photo_path

pytestmark = pytest.mark.usefixtures("vision_weights")

RESNET = "@cf/microsoft/resnet-50"
DETR = "@cf/facebook/detr-resnet-50"
LLAVA = "@cf/llava-hf/llava-1.5-7b-hf"
MOONDREAM = "@cf/moondream/moondream3.1-9B-A2B"
OMNI = "@cf/baai/omni-bge-base-en-v1.5"


@pytest.fixture(scope="module")
def cup() -> bytes:
    file = io.BytesIO()
    photo("coffee").save(file, "JPEG", quality=90)
    return file.getvalue()


def as_data_uri(image: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(image).decode()}"


@pytest.mark.parametrize("kind", ["image/jpeg", "application/octet-stream", None])
async def test_a_body_is_an_image(local: Local, cup: bytes, kind: str | None) -> None:
    # curl --data-binary sends application/x-www-form-urlencoded.
    headers = {"Content-Type": kind or "application/x-www-form-urlencoded"}
    reply = await local.post(RESNET, cup, headers=headers)
    assert reply.headers["cfai-backend"] == "efficientnet-lite0"
    assert len(reply.result) == 5
    assert reply.result[0]["label"] == "espresso"
    assert all(set(row) == {"label", "score"} for row in reply.result)
    scores = [row["score"] for row in reply.result]
    assert scores == sorted(scores, reverse=True)


async def test_every_form_of_an_image_gives_the_same_answer(local: Local, cup: bytes) -> None:
    forms: list[Any] = [list(cup), base64.b64encode(cup).decode(), as_data_uri(cup)]
    whole = (await local.post(RESNET, cup)).result
    for form in forms:
        assert (await local.post(RESNET, {"image": form})).result == whole


async def test_objects_have_boxes_in_pixels(local: Local, cup: bytes) -> None:
    reply = await local.post(DETR, cup)
    assert reply.headers["cfai-backend"] == "nanodet"
    (row, *_) = reply.result
    assert row["label"] == "cup"
    assert set(row) == {"label", "score", "box"}
    assert list(row["box"]) == ["xmin", "ymin", "xmax", "ymax"]
    assert 300 < row["box"]["xmax"] <= 600


async def test_a_description_is_a_sentence(local: Local, cup: bytes) -> None:
    reply = await local.post(LLAVA, cup)
    assert reply.headers["cfai-backend"].startswith("labels-boxes-text:")
    assert reply.result == {"description": "An image of an espresso with a cup."}


@pytest.mark.parametrize(
    "prompt",
    [
        "Describe this image.",
        "What is in this image?",
        "what's in this picture?",
        "Generate a caption for this image",
        "Write a short description of the photo",
        "Please describe this image in detail.",
        "",
    ],
)
async def test_a_prompt_can_ask_for_a_description(local: Local, cup: bytes, prompt: str) -> None:
    reply = await local.post(LLAVA, {"image": list(cup), "prompt": prompt, "max_tokens": 512})
    assert "espresso" in reply.result["description"]


@pytest.mark.parametrize("limit", [1, 4])
async def test_a_description_is_cut_at_a_word(local: Local, cup: bytes, limit: int) -> None:
    reply = await local.post(LLAVA, {"image": list(cup), "max_tokens": limit})
    assert reply.result["description"] == " ".join(["An", "image", "of", "an"][:limit])


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"prompt": "Is the cup empty?"}, "questions about images"),
        ({"temperature": 0.3}, "temperature"),
        ({"raw": True}, "raw"),
        ({"seed": 1}, "seed"),
    ],
)
async def test_what_needs_a_vision_model_is_not_supported(
    local: Local, cup: bytes, fields: dict[str, Any], names: str
) -> None:
    reply = await local.post(LLAVA, {"image": list(cup), **fields})
    status, code, message = reply.error
    assert (status, code) == (501, 90001)
    assert names in message
    assert "--upstream" in message


async def test_the_skills_of_moondream(local: Local, cup: bytes) -> None:
    image = as_data_uri(cup)
    query = (await local.post(MOONDREAM, {"image": image})).result
    assert query["answer"] == "An image of an espresso with a cup."
    assert query["finish_reason"] == "stop"
    caption = (await local.post(MOONDREAM, {"image": image, "task": "caption"})).result
    assert caption["caption"] == query["answer"]
    detect = {"image": image, "task": "detect", "target": "cup"}
    (box,) = (await local.post(MOONDREAM, detect)).result["objects"]
    assert 0 <= box["x_min"] < box["x_max"] <= 1
    (point,) = (await local.post(MOONDREAM, {**detect, "task": "point"})).result["points"]
    assert box["x_min"] < point["x"] < box["x_max"]
    assert box["y_min"] < point["y"] < box["y_max"]


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({"task": "sing"}, 400, "task must be one of query, caption, point, detect"),
        ({"task": "detect", "target": "unicorn"}, 501, "80 kinds of COCO"),
        ({"task": "detect", "target": "cup", "max_objects": 0}, 400, "max_objects"),
        ({"task": "detect", "target": ["cup"]}, 400, "target must be a string"),
        ({"task": "point", "target": 5}, 400, "target must be a string, got 5"),
        ({"task": "detect", "max_objects": True}, 400, "max_objects must be from 1 to 500"),
        ({"question": 5}, 400, "question must be a string, got 5"),
        ({"stream": "yes"}, 400, "stream must be true or false, got 'yes'"),
        ({"question": "How full is it?"}, 501, "questions about images"),
        ({"stream": True}, 501, "stream"),
        ({"reasoning": True}, 501, "reasoning"),
        ({"prompt": "hi"}, 400, "unknown field 'prompt'"),
        ({"image": "https://example.com/cat.png"}, 501, "nothing is fetched"),
        ({"image": None}, 400, "required properties at '/' are 'image'"),
    ],
)
async def test_moondream_refuses_what_it_cannot_do(
    local: Local, cup: bytes, fields: dict[str, Any], status: int, message: str
) -> None:
    reply = await local.post(MOONDREAM, {"image": as_data_uri(cup), **fields})
    assert reply.error[0] == status
    assert message in reply.error[2]


async def test_a_null_counts_as_omitted(local: Local, cup: bytes) -> None:
    plain = {"image": as_data_uri(cup), "task": "detect"}
    nulls = dict.fromkeys(("target", "max_objects", "stream"))
    replies = [await local.post(MOONDREAM, body) for body in (plain, {**plain, **nulls})]
    assert replies[0].result == replies[1].result


async def test_the_querys_own_parameter_is_no_field(local: Local, cup: bytes) -> None:
    async with local.http.post(f"{local.url(RESNET)}?queueRequest=false", data=cup) as response:
        assert response.status == 200


@pytest.mark.parametrize("model", [RESNET, DETR, LLAVA])
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"no image", "image: it must be an image in one of the formats"),
        (b'{"image": [256]}', "image must be a list of integers from 0 to 255"),
        (b'{"image": [1.5]}', "image must be a list of integers from 0 to 255"),
        (b'{"image": "***"}', "image must be base64"),
        ('{"image": "é"}'.encode(), "image must be base64"),
        (b'{"image": 7}', "image must be a list of integers or base64, got 7"),
        (b'{"image": []}', "image: it must be an image"),
        (b'{"image": [1], "size": 3}', "unknown field 'size'"),
        (b"{}", "required properties at '/' are 'image'"),
    ],
)
async def test_what_is_no_image_is_refused(
    local: Local, model: str, body: bytes, message: str
) -> None:
    status, code, text = (await local.post(model, body)).error
    assert (status, code) == (400, 5006)
    assert message in text


@pytest.mark.parametrize("model", [RESNET, LLAVA])
@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        ("application/json", b"[1]", "the body must be a JSON object"),
        ("application/json", b"", "Missing headers or body"),
        ("image/png", b"", "Missing headers or body"),
        ("application/json; charset=utf-8", b"no JSON", "the body is not JSON"),
        ("text/plain", b' \n{"image": []}', "image: it must be an image"),
        ("text/plain", b" {", "the body is not JSON"),
        ("image/png", b'{"image": []}', "image: it must be an image"),
        ("text/plain", b"[1]", "image: it must be an image"),
    ],
)
async def test_the_type_says_whether_a_body_is_json(
    local: Local, model: str, kind: str, body: bytes, message: str
) -> None:
    """Without one, it is if it begins like an object."""
    reply = await local.post(model, body, headers={"Content-Type": kind})
    assert reply.error[0] == 400
    assert message in reply.error[2]


async def test_boxes_are_parts_of_the_sides(local: Local, cup: bytes) -> None:
    """And points their middles; the best ones come first."""
    width, height = photo("coffee").size
    rows = [row for row in (await local.post(DETR, cup)).result if row["label"] == "cup"]
    body = {"image": as_data_uri(cup), "target": "cup"}
    boxes = (await local.post(MOONDREAM, {**body, "task": "detect"})).result["objects"]
    points = (await local.post(MOONDREAM, {**body, "task": "point"})).result["points"]
    for row, box, point in zip(rows, boxes, points, strict=True):
        pixels = row["box"]
        assert box == pytest.approx(
            {
                "x_min": pixels["xmin"] / width,
                "y_min": pixels["ymin"] / height,
                "x_max": pixels["xmax"] / width,
                "y_max": pixels["ymax"] / height,
            }
        )
        middle = {
            "x": (box["x_min"] + box["x_max"]) / 2,
            "y": (box["y_min"] + box["y_max"]) / 2,
        }
        assert point == pytest.approx(middle)


async def test_the_number_of_objects_is_limited(local: Local) -> None:
    single = photo("motorcycle")
    twice = Image.new("RGB", (single.width, single.height * 2))
    for number in range(2):
        twice.paste(single, (0, number * single.height))
    file = io.BytesIO()
    twice.save(file, "PNG")
    body = {"image": base64.b64encode(file.getvalue()).decode(), "task": "point"}
    body |= {"target": "motorcycle"}
    rows = (await local.post(DETR, file.getvalue())).result
    count = sum(row["label"] == "motorcycle" for row in rows)
    assert count >= 2
    for limit, number in ((None, count), (1, 1), (2, 2), (500, count)):
        reply = await local.post(MOONDREAM, {**body, "max_objects": limit})
        assert len(reply.result["points"]) == number
    for bad in (0, 501, 1.0, "1"):
        reply = await local.post(MOONDREAM, {**body, "max_objects": bad})
        assert f"max_objects must be from 1 to 500, got {bad!r}" in reply.error[2]
    people = await local.post(MOONDREAM, {**body, "target": None})
    named = await local.post(MOONDREAM, {**body, "target": "person"})
    assert people.result == named.result


async def test_each_skill_has_its_own_answer(local: Local, cup: bytes) -> None:
    """The others are null."""
    names = {"query": "answer", "caption": "caption", "point": "points", "detect": "objects"}
    for skill, name in names.items():
        body = {"image": as_data_uri(cup), "task": skill}
        result = (await local.post(MOONDREAM, body)).result
        assert result.pop(name) is not None
        assert result == {"finish_reason": "stop", **dict.fromkeys({*names.values()} - {name})}


@pytest.mark.parametrize(
    ("limit", "status"), [(0, 400), (0.5, 400), (1, 200), (6, 200), (512, 200)]
)
async def test_a_description_has_at_most_so_many_tokens(
    local: Local, cup: bytes, limit: float, status: int
) -> None:
    reply = await local.post(LLAVA, {"image": list(cup), "max_tokens": limit})
    assert reply.status == status
    if status == 200:
        text = reply.result["description"]
        words = ["An", "image", "of", "an", "espresso", "with", "a", "cup."]
        assert text == " ".join(words[: len(text.split())])
        assert wordpiece.count_tokens(text) <= limit
        longer = " ".join(words[: len(text.split()) + 1])
        assert longer == text or wordpiece.count_tokens(longer) > limit
    else:
        assert f"max_tokens must be at least 1, got {limit}" in reply.error[2]


async def test_an_image_and_texts_are_embedded_together(local: Local, cup: bytes) -> None:
    body = {"image": base64.b64encode(cup).decode(), "text": ["coffee", "a castle"]}
    reply = await local.post(OMNI, body)
    assert reply.headers["cfai-backend"] == "conse:efficientnet-lite0+minilm-int8"
    assert reply.result["shape"] == [3, 768]
    image, coffee, castle = reply.result["data"]
    cosines = [sum(a * b for a, b in zip(image, text, strict=True)) for text in (coffee, castle)]
    assert cosines[0] > cosines[1] + 0.2
    alone = (await local.post(OMNI, {"image": body["image"]})).result
    assert alone["shape"] == [1, 768]
    texts = (await local.post(OMNI, {"text": ["coffee"]})).result
    assert texts["data"][0] == pytest.approx(coffee, abs=0.02)


async def test_the_client_asks_with_images(local: Local) -> None:
    path = photo_path("coffee")
    async with WorkersAI(**local.server.credentials) as ai:
        labels = await ai.run(RESNET, ImageClassification(path))
        assert labels.best.label == "espresso"
        detections = await ai.run(DETR, ObjectDetection(path))
        assert detections[0].label == "cup"
        for model in (LLAVA, MOONDREAM):
            description = await ai.run(model, ImageToText(path))
            assert "espresso" in description.text
        embeddings = await ai.run(OMNI, MultimodalEmbeddings(image=path, text=["coffee"]))
        assert embeddings.shape == (2, 768)


ANY = {
    "temperature": 0.5,
    "raw": True,
    "prompt": "Is it full?",
    "max_tokens": 3,
    "seed": 3,
    "top_k": 2,
}


@pytest.mark.parametrize("model", [RESNET, DETR, LLAVA])
async def test_every_field_is_used_or_refused(local: Local, cup: bytes, model: str) -> None:
    async with WorkersAI(**local.server.credentials) as ai:
        schema = await ai.models.schema(model)
    assert schema.input is not None
    plain = (await local.post(model, {"image": list(cup)})).result
    for name in schema.input["properties"].keys() - {"image"}:
        reply = await local.post(model, {"image": list(cup), name: ANY.get(name, 0.5)})
        if reply.status == 200:
            assert reply.result != plain, f"{name} is ignored"
        else:
            assert reply.status in (400, 501)
            assert name in reply.error[2]
