"""The test card, which stands in for text-to-image models on request, byte by byte."""

import struct
import zlib
from base64 import b64decode
from collections.abc import AsyncIterator
from io import BytesIO
from typing import Any

import orjson
import pytest
from aiohttp import FormData

from cfai import TextToImage
from cfai.local import weights
from cfai.local.backends.vision.ppocr import PaddleOcr
from cfai.profiles import TASKS
from tests.local.conftest import Local, Reply, client, running
from tests.local.test_queue import submit, wait_for_batch

SDXL = "@cf/stabilityai/stable-diffusion-xl-base-1.0"
SCHNELL = "@cf/black-forest-labs/flux-1-schnell"
FLUX_2 = "@cf/black-forest-labs/flux-2-dev"
MODELS = sorted(model for model, task in TASKS.items() if task == "Text-to-Image")

# Source: the output schemas of the model cards, and @cloudflare/workers-types 5.20261117.1.
IN_JSON = {
    SCHNELL,
    FLUX_2,
    "@cf/black-forest-labs/flux-2-klein-4b",
    "@cf/black-forest-labs/flux-2-klein-9b",
    "@cf/leonardo/lucid-origin",
}


@pytest.fixture
async def cards() -> AsyncIterator[Local]:
    async with running(test_card=True) as local:
        yield local


def read_size(image: bytes) -> tuple[int, int]:
    """Check each chunk of a PNG file and give its width and height (RFC 2083, 3 and 4.1)."""
    assert image[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = [], 8
    while at < len(image):
        (length,) = struct.unpack(">I", image[at : at + 4])
        content = image[at + 4 : at + 8 + length]
        assert image[at + 8 + length : at + 12 + length] == struct.pack(">I", zlib.crc32(content))
        chunks.append((content[:4], content[4:]))
        at += 12 + length
    (first, header), *others = chunks
    assert (first, len(header)) == (b"IHDR", 13)
    assert chunks[-1] == (b"IEND", b"")
    width, height, *form = struct.unpack(">IIBBBBB", header)
    assert form == [8, 2, 0, 0, 0]  # RGB with 8 bits
    rows = zlib.decompress(b"".join(data for kind, data in others if kind == b"IDAT"))
    assert len(rows) == height * (1 + 3 * width)
    return width, height


def read_text(image: bytes) -> str:
    """Read a card as another program would."""
    import numpy as np
    from PIL import Image

    pixels = np.asarray(Image.open(BytesIO(image)).convert("RGB"))
    paths = weights.ensure(weights.PADDLE_OCR)
    lines = PaddleOcr(*paths).read(pixels)
    return " ".join(line.text for line in lines)


@pytest.mark.parametrize("model", MODELS)
async def test_a_card_has_the_form_of_the_models_answers(cards: Local, model: str) -> None:
    reply = await cards.post(model, {"prompt": "a cat", "width": 512, "height": 256})
    assert reply.headers["cfai-backend"] == "test-card"
    if model in IN_JSON:
        assert set(reply.result) == {"image"}
        image = b64decode(reply.result["image"], validate=True)
    else:
        assert reply.headers["Content-Type"] == "image/png"
        image = reply.body
    assert read_size(image) == (512, 256)


@pytest.mark.parametrize("model", MODELS)
async def test_the_client_reads_a_card(cards: Local, model: str) -> None:
    """Each model in its own way: flux-2 gets a form."""
    async with client(cards.server) as ai:
        image = await ai.run(model, TextToImage("a cat", num_steps=4))
    assert image.meta.backend == "test-card"
    assert image.media_type == "image/png"
    assert read_size(image.data) == (1024, 1024)


@pytest.mark.parametrize("size", [(1024, 1024), (256, 480), (480, 256), (2048, 256)])
@pytest.mark.parametrize("prompt", ["a cat", "a long story " * 150])
async def test_the_text_of_a_card_stays_inside_its_border(
    cards: Local, size: tuple[int, int], prompt: str
) -> None:
    """A black border, a title in large letters below a margin, and lines below it."""
    import numpy as np
    from PIL import Image

    body = {"prompt": prompt, "width": size[0], "height": size[1]}
    card = Image.open(BytesIO((await cards.post(SDXL, body)).body)).convert("L")
    assert card.size == size
    dark = np.asarray(card) < 128
    unit = min(size) // 24
    border = unit // 4
    for side in (dark[:border], dark[-border:], dark[:, :border], dark[:, -border:]):
        assert side.all()
    inside = dark[border:-border, border:-border]
    margin = unit - border - 1
    for side in (inside[:margin], inside[:, :margin], inside[-1:], inside[:, -1:]):
        assert not side.any()
    title, lines = inside[: 4 * unit - border], inside[4 * unit - border :]
    rows = np.nonzero(title.any(axis=1))[0]
    assert unit < rows.max() - rows.min() < 2.5 * unit
    assert lines.any()


async def test_the_numbers_of_a_card(cards: Local) -> None:
    """A side that is left out has 1,024 pixels; steps are integers from 1."""
    image = (await cards.post(SDXL, {"prompt": "a", "width": 512})).body
    assert read_size(image) == (512, 1024)
    for steps, status in ((1, 200), (0, 400), (-1, 400), (1.5, 400), (True, 400), ("4", 400)):
        reply = await cards.post(SDXL, {"prompt": "a", "width": 256, "steps": steps})
        assert reply.status == status
        if status == 400:
            assert "steps must be" in reply.error[2]


@pytest.mark.usefixtures("vision_weights")
async def test_a_card_says_what_it_is(cards: Local) -> None:
    body = {"prompt": "a red boat", "seed": 7, "num_steps": 4, "width": 640, "height": 512}
    text = read_text((await cards.post(SDXL, body)).body)
    for part in ("TEST CARD", "No model made this image", "640 x 512", "seed: 7", "a red boat"):
        assert part.replace(" ", "") in text.replace(" ", "")


@pytest.mark.parametrize(
    "changed",
    [
        {"prompt": "b"},
        {"seed": 8},
        {"steps": 2},
        {"num_steps": 2},
        {"guidance": 2},
        {"negative_prompt": "dogs"},
        {"width": 300},
        {"height": 300},
    ],
    ids=str,
)
async def test_each_field_is_on_the_card(cards: Local, changed: dict[str, Any]) -> None:
    body = {"prompt": "a", "seed": 7}
    first, again, other = [
        (await cards.post(SDXL, each)).body for each in (body, body, {**body, **changed})
    ]
    assert first == again != other


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 400, "required properties at '/' are 'prompt'"),
        ({"prompt": ""}, 400, "prompt must have at least 1 character"),
        ({"prompt": "a", "width": 255}, 400, "width must be"),
        ({"prompt": "a", "height": 2049}, 400, "height must be"),
        ({"prompt": "a", "num_steps": 21}, 400, "num_steps must be"),
        ({"prompt": "a", "steps": 0}, 400, "steps must be an integer of at least 1, got 0"),
        ({"prompt": "a", "steps": True}, 400, "steps must be an integer of at least 1, got True"),
        ({"prompt": "a", "seed": "x"}, 400, "seed must be"),
        ({"prompt": "a", "colour": "red"}, 400, "unknown field 'colour'"),
        ({"prompt": "a", "image": [1]}, 501, "changes no image: omit image"),
        ({"prompt": "a", "image_b64": "aGk="}, 501, "changes no image: omit image_b64"),
        ({"prompt": "a", "mask": [1]}, 501, "changes no image: omit mask"),
        ({"prompt": "a", "strength": 0.5}, 501, "changes no image: omit strength"),
    ],
)
async def test_a_field_that_has_no_effect_is_refused(
    cards: Local, body: dict[str, Any], status: int, message: str
) -> None:
    reply = await cards.post(SDXL, body)
    assert reply.error[:2] == (status, 5006 if status == 400 else 90001)
    assert message in reply.error[2]


async def post_form(local: Local, *fields: tuple[str, Any]) -> Reply:
    form = FormData(default_to_multipart=True)
    for name, value in fields:
        options = {"filename": "a.png"} if isinstance(value, bytes) else {}
        form.add_field(name, value, **options)
    async with local.http.post(local.url(FLUX_2), data=form) as response:
        return Reply(response.status, response.headers, await response.read())


async def test_a_form_is_read(cards: Local) -> None:
    fields = [("prompt", "42"), ("width", "320"), ("height", "256"), ("steps", "4")]
    reply = await post_form(cards, *fields)
    assert read_size(b64decode(reply.result["image"])) == (320, 256)


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ([("prompt", "a"), ("input_image_0", b"\x89PNG")], 501, "omit input_image_0"),
        ([("prompt", "a"), ("width", "wide")], 400, "width must be"),
        ([("prompt", "a"), ("prompt", "b")], 400, "the form has the field 'prompt' twice"),
        ([("width", "256")], 400, "required properties at '/' are 'prompt'"),
    ],
)
async def test_a_form_is_refused_by_the_name_of_its_field(
    cards: Local, fields: list[tuple[str, Any]], status: int, message: str
) -> None:
    reply = await post_form(cards, *fields)
    assert reply.status == status
    assert message in reply.error[2]


async def test_a_large_form_is_refused() -> None:
    async with running(test_card=True, body_limit=1000) as local:
        assert (await post_form(local, ("prompt", "a" * 2000))).status == 413


async def test_without_the_option_there_is_no_card(local: Local) -> None:
    root = local.server.base_url.removesuffix("/client/v4")
    for model in MODELS:
        assert (await local.post(model, {"prompt": "a"})).error[:2] == (501, 90001)
    async with local.http.get(f"{root}/health") as response:
        assert await response.read() == b'{"status":"ok"}'


async def test_health_names_the_card(cards: Local) -> None:
    root = cards.server.base_url.removesuffix("/client/v4")
    async with cards.http.get(f"{root}/health") as response:
        document = orjson.loads(await response.read())
    assert document == {"status": "ok", "backends": {"Text-to-Image": "test-card"}}


async def test_a_queued_card_in_json(cards: Local) -> None:
    reply = await submit(cards, {"requests": [{"prompt": "a"}]}, SCHNELL)
    batch = await wait_for_batch(cards, reply.result["request_id"], SCHNELL)
    (response,) = batch["responses"]
    assert read_size(b64decode(response["result"]["image"])) == (1024, 1024)
