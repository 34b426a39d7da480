"""Questions about a state: what is sent, what is refused, and the embedded media.

Source: the model cards of @cf/cloudflare/clef and clef-omni.
"""

import pickle
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from cfai import (
    Base64,
    Choice,
    Decide,
    InputError,
    Noul,
    NoulDecision,
    Score,
    ScoreDecision,
    media,
)
from cfai.tasks import rules

CLEF = "@cf/cloudflare/clef"
OMNI = "@cf/cloudflare/clef-omni"


def decide(state: Any, questions: Any) -> Decide:
    """A task of arguments that a type checker would refuse."""
    return Decide(state, questions)


def png(width: int = 1, height: int = 1, size: int = 0) -> bytes:
    """The beginning of a PNG of a width, a height and a size in bytes."""
    header = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + width.to_bytes(4) + height.to_bytes(4)
    return header.ljust(size, b"\x00")


PNG = png()
PNG64 = b64encode(PNG).decode()
URL = f"data:image/png;base64,{PNG64}"
MP4 = b"\x00\x00\x00\x18ftypisom"
SPAM = {"spam": Noul("Is it spam?")}


def test_all_questions_are_sent_as_documented() -> None:
    task = Decide(
        {"subject": "Refund"},
        {
            "spam": Noul("Is it spam?", {"true": "unsolicited", "false": "a customer"}),
            "team": Choice("Which team?", {"billing": "money", "support": None}),
            "any-team": Choice.of("Which team?", ["a", "b"]),
            "mood.1": Score({"question": "How angry?", "of": [1]}, ["calm", {"is": "furious"}]),
            "raw": {"type": "noul", "instructions": "Urgent?", "new": 1},
        },
        images=[URL],
    )
    assert task.payload_for(CLEF) == {
        "model": "clef",
        "state": {"subject": "Refund"},
        "questions": {
            "spam": {
                "type": "noul",
                "instructions": "Is it spam?",
                "criteria": {"true": "unsolicited", "false": "a customer"},
            },
            "team": {
                "type": "choice",
                "instructions": "Which team?",
                "criteria": {"billing": "money", "support": None},
            },
            "any-team": {
                "type": "choice",
                "instructions": "Which team?",
                "criteria": {"a": None, "b": None},
            },
            "mood.1": {
                "type": "score",
                "instructions": {"question": "How angry?", "of": [1]},
                "criteria": ["calm", {"is": "furious"}],
            },
            "raw": {"type": "noul", "instructions": "Urgent?", "new": 1},
        },
        "images": [URL],
    }
    assert pickle.loads(pickle.dumps(task)) == task  # noqa: S301  # our own bytes


@pytest.mark.parametrize("model", [CLEF, "@cf/cloudflare/clef-flash", OMNI, "dynamic/clef-route"])
def test_the_model_in_the_body_is_that_of_the_path(model: str) -> None:
    assert Decide("x", SPAM).payload_for(model)["model"] == model.rpartition("/")[2]


def test_fields_that_the_class_does_not_know_can_be_added() -> None:
    body = Decide("x", SPAM, extra={"model": "clef-next", "seed": 1}).payload_for(CLEF)
    assert (body["model"], body["seed"]) == ("clef-next", 1)


@pytest.mark.parametrize("count", [1, 64])
def test_the_edges_of_the_bounds_are_accepted(count: int) -> None:
    questions = {f"q{number}".ljust(100, "_"): Noul("?") for number in range(count)}
    assert len(Decide("", questions).payload()["questions"]) == count
    options = {str(number): None for number in range(255)}
    assert Choice("?", options).payload()["criteria"] == options
    assert Score("?", ["level"] * 10).payload()["criteria"] == ["level"] * 10


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: decide(None, SPAM), "state: it must be text, an object or a list, got None"),
        (lambda: decide(b"x", SPAM), "state: it must be text, an object or a list"),
        (lambda: Decide("x", {}), "questions must have at least 1 item"),
        (lambda: decide("x", [Noul("?")]), "questions must be a mapping of names to values"),
        (
            lambda: Decide("x", {f"q{number}": Noul("?") for number in range(65)}),
            "questions must have at most 64 items, not 65",
        ),
        (lambda: Decide("x", {"": Noul("?")}), "questions must have names that match"),
        (lambda: Decide("x", {"é": Noul("?")}), r"questions must have names .*, got 'é'"),
        (lambda: Decide("x", {"a\n": Noul("?")}), "questions must have names that match"),
        (lambda: Decide("x", {"a" * 101: Noul("?")}), "questions must have names that match"),
        (lambda: decide("x", {1: Noul("?")}), "questions must have names that match"),
        (lambda: decide("x", {"q": "Is it spam?"}), r"questions\['q'\]: a question must be a Noul"),
        (
            lambda: Decide("x", {"q": {"type": "text"}}),
            r"questions\['q'\]: type must be one of noul, choice, score, got 'text'",
        ),
        (
            lambda: Decide("x", {"q": {"type": "noul"}}),
            r"questions\['q'\]: instructions: they must be text, an object or a list, not empty",
        ),
        (
            lambda: Decide("x", {"q": {"type": "score", "instructions": "?", "criteria": ["a"]}}),
            r"questions\['q'\]: criteria must have at least 2 items",
        ),
        (lambda: Noul(""), "instructions: they must be text, an object or a list, not empty"),
        (lambda: Noul({}), "not empty, got {}"),
        (lambda: Noul("?", {"yes": "y"}), "criteria must have names that match true|false"),
        (lambda: Noul("?", {"true": 1}), r"criteria\['true'\]: a description must be text"),
        (lambda: Choice("?", {"a": None}), "criteria must have at least 2 items"),
        (lambda: Choice("?", {"a": None, "": None}), "criteria must have names, got ''"),
        (
            lambda: Choice("?", {str(number): None for number in range(256)}),
            "criteria must have at most 255 items, not 256",
        ),
        (lambda: Score("?", ["low"]), "criteria must have at least 2 items"),
        (lambda: Score("?", ["level"] * 11), "criteria must have at most 10 items, not 11"),
        (lambda: Score("?", ["low", None]), r"criteria\[1\]: a description must be text"),
        (lambda: Decide("x", SPAM, images=[URL] * 5), "images must have at most 4 items, not 5"),
        (lambda: Decide("x", SPAM, audio=[URL] * 5), "audio must have at most 4 items, not 5"),
        (lambda: Decide("x", SPAM, videos=[URL] * 3), "videos must have at most 2 items, not 3"),
        (
            lambda: Decide("x", SPAM, images=["https://example.com/a.png"]),
            r"images\[0\]: an attachment must not be a URL: fetch it first",
        ),
        (
            lambda: Decide("x", SPAM, images=["data:image/png,abc"]),
            r"images\[0\]: a data: URL must contain base64",
        ),
        (
            lambda: Decide("x", SPAM, images=[{"url": URL}]),
            r"images\[0\]: an attachment must be {content_type, base64}, got \['url'\]",
        ),
        (
            lambda: Decide("x", SPAM, images=[{"content_type": "image/png", "base64": "?"}]),
            r"images\[0\]: Base64 must be valid base64",
        ),
    ],
)
def test_bad_input_is_refused_when_the_task_is_created(build: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build()


def test_the_bounds_are_those_of_the_card() -> None:
    assert (rules(Decide)["questions"].min_items, rules(Decide)["questions"].max_items) == (1, 64)
    assert [rules(Decide)[name].max_items for name in ("images", "audio", "videos")] == [4, 4, 2]
    assert (rules(Choice)["criteria"].min_items, rules(Choice)["criteria"].max_items) == (2, 255)
    assert (rules(Score)["criteria"].min_items, rules(Score)["criteria"].max_items) == (2, 10)


@pytest.mark.parametrize("model", ["@cf/meta/llama-3.3-70b-instruct-fp8-fast", "@hf/a/clef"])
def test_a_model_of_another_family_is_refused(model: str) -> None:
    if model == "@hf/a/clef":
        assert Decide("x", SPAM).payload_for(model)
        return
    with pytest.raises(InputError, match="model must be a Clef model for Decide, such as @cf/"):
        Decide("x", SPAM).payload_for(model)


@pytest.mark.parametrize(
    ("score", "level"),
    [(0, 0), (0.49, 0), (0.5, 1), (1, 1), (1.49, 1), (1.5, 2), (2.5, 3), (3, 3)],
)
def test_the_level_is_the_nearest_one(score: float, level: int) -> None:
    """Of two, the higher one."""
    assert ScoreDecision(score).level == level


@pytest.mark.parametrize(
    ("probability", "yes"), [(0, False), (0.49, False), (0.5, True), (1, True)]
)
def test_a_yes_is_at_least_as_probable_as_a_no(probability: float, yes: bool) -> None:
    assert NoulDecision(probability).yes is yes


# Attachments


def test_every_source_of_an_image_is_sent_as_documented(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    plain = {"content_type": "image/png", "base64": PNG64}
    task = Decide("x", SPAM, images=[PNG, str(path), Base64(PNG64), plain])
    assert task.payload()["images"] == [URL, URL, URL, plain]
    assert Decide("x", SPAM, images=[path, f"DATA:image/png;base64,{PNG64}"]).payload()[
        "images"
    ] == [URL, f"DATA:image/png;base64,{PNG64}"]
    with path.open("rb") as file:
        assert Decide("x", SPAM, images=[file]).payload()["images"] == [URL]
    assert task.reads_files()
    assert not Decide("x", SPAM).reads_files()


def test_sounds_and_videos_are_for_omni() -> None:
    task = Decide("x", SPAM, audio=[b"ID3\x04"], videos=[MP4])
    body = task.payload_for(OMNI)
    assert body["audio"] == [f"data:audio/mpeg;base64,{b64encode(b'ID3' + bytes([4])).decode()}"]
    assert body["videos"] == [f"data:video/mp4;base64,{b64encode(MP4).decode()}"]
    only_audio, only_videos = Decide("x", SPAM, audio=[b"ID3"]), Decide("x", SPAM, videos=[MP4])
    for some in (task, only_audio, only_videos):
        with pytest.raises(InputError, match="audio and videos must not be set except for @cf/"):
            some.payload_for(CLEF)
        assert some.payload_for("clef-of-a-gateway")
    assert Decide("x", SPAM, audio=[], videos=[]).payload_for(CLEF)
    assert only_audio.reads_files()
    assert only_videos.reads_files()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"images": [b"GIF89a"]}, r"images\[0\] must be a PNG, JPEG or WebP image, got image/gif"),
        ({"images": [PNG, b"text"]}, r"images\[1\] must be a PNG, .*, got application/octet-strea"),
        ({"images": [png(size=4 * 2**20 + 1)]}, r"images\[0\] must have at most 4 MiB, got 4.00 M"),
        ({"images": [png(size=3 * 2**20)] * 3}, "images must have at most 8 MiB, got 9.00 MiB tog"),
        ({"images": [png(4097, 4096)]}, r"images\[0\] must have at most 16 megapixels, got 4097 x"),
        ({"images": [png(4096, 4097)]}, r"images\[0\] must have at most 16 megapixels, got 4096 x"),
        ({"audio": [PNG]}, r"audio\[0\] must be a sound .*, got image/png"),
        ({"audio": [b"ID3".ljust(8 * 2**20 + 1)]}, r"audio\[0\] must have at most 8 MiB"),
        ({"videos": [b"ID3"]}, r"videos\[0\] must be a video .*, got audio/mpeg"),
        ({"videos": [MP4.ljust(16 * 2**20 + 1)]}, r"videos\[0\] must have at most 16 MiB"),
        (
            {"videos": [MP4.ljust(9 * 2**20)], "audio": [b"ID3".ljust(8 * 2**20)]},
            "audio and videos must have at most 16 MiB, got 17.00 MiB together",
        ),
        ({"images": ["/nowhere/a.png"]}, "media cannot be read from /nowhere/a.png"),
    ],
)
def test_media_outside_the_limits_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Decide("x", SPAM, **fields).payload_for(OMNI)


def test_media_at_the_limits_are_sent() -> None:
    task = Decide("x", SPAM, images=[png(4096, 4096, size=4 * 2**20)] * 2)
    assert len(task.payload()["images"]) == 2
    for audio, videos in ((8, 0), (0, 16), (7, 9)):
        sounds = [b"ID3".ljust(audio * 2**20)] if audio else None
        clips = [MP4.ljust(videos * 2**20)] if videos else None
        body = Decide("x", SPAM, audio=sounds, videos=clips).payload_for(OMNI)
        assert ("audio" in body, "videos" in body) == (bool(audio), bool(videos))


def test_one_byte_more_than_the_total_is_refused() -> None:
    sounds, clips = [b"ID3".ljust(7 * 2**20 + 1)], [MP4.ljust(9 * 2**20)]
    with pytest.raises(
        InputError, match=r"audio and videos must have at most 16 MiB, got 16\.00 MiB"
    ):
        Decide("x", SPAM, audio=sounds, videos=clips).payload_for(OMNI)
    pictures = [png(size=4 * 2**20), png(size=2 * 2**20), png(size=2 * 2**20 + 1)]
    with pytest.raises(InputError, match=r"images must have at most 8 MiB, got 8\.00 MiB"):
        Decide("x", SPAM, images=pictures).payload_for(OMNI)


JPEG = bytes.fromhex("ffd8 ffe0 0004 0000 ffff ff01 ffc0 0011 08 0102 0304 03")
BARE_MARKERS = [b"\x01", b"\xd0", b"\xd4", b"\xd7"]
"""TEM and RST: markers without a segment. Source: ITU-T T.81, table B.1."""
WEBP = b"RIFF\x00\x00\x00\x00WEBP"


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (png(300, 200), (300, 200)),
        (JPEG, (0x0304, 0x0102)),
        *((b"\xff\xd8\xff" + bare + JPEG[2:], (0x0304, 0x0102)) for bare in BARE_MARKERS),
        (WEBP + b"VP8 " + bytes(10) + bytes.fromhex("2c01 c800"), (300, 200)),
        (WEBP + b"VP8L" + bytes(4) + b"\x2f" + (299 | 199 << 14).to_bytes(4, "little"), (300, 200)),
        (WEBP + b"VP8X" + bytes(8) + bytes.fromhex("2b0100 c70000"), (300, 200)),
        (WEBP + b"NEW ", None),
        (JPEG[:12], None),
        (b"GIF89a", None),
        (b"", None),
    ],
)
def test_the_size_of_an_image_is_read_from_its_header(
    data: bytes, size: tuple[int, int] | None
) -> None:
    assert media.image_size(data) == size


@pytest.mark.parametrize(("width", "height"), [(4096, 4096), (16_384, 1024), (1024, 16_384)])
def test_an_image_may_have_16_megapixels_in_any_form(width: int, height: int) -> None:
    assert Decide("x", SPAM, images=[png(width, height)])
