"""`cfai decide` and `cfai extract`: questions and fields from arguments, and the printed values."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from cfai.testing import FakeWorkersAI

from .processes import Cfai

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c49444154789c63f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
)
WAV = b"RIFF\x04\0\0\0WAVE"
MP4 = b"\0\0\0\x18ftypmp42"

# Source of the form: the model card of @cf/cloudflare/clef.
DECISIONS = {
    "model": "clef",
    "answers": {
        "refund": {"type": "noul", "noul": 0.97},
        "team": {"type": "choice", "choice": "billing", "probabilities": {"billing": 0.9}},
        "anger": {"type": "score", "score": 1.6, "probabilities": {"2": 0.7}},
    },
    "usage": {"input_tokens": 213, "output_tokens": 0},
}
# Source of the form: clairic 0.1.0 (PyPI).
EXTRACTION = {
    "model": "clairic",
    "answers": {
        "number": {"type": "text", "value": "A1", "span": [8, 10]},
        "total": {"type": "number", "value": 125.5},
        "due": {"type": "date", "value": None, "p_null": 0.97},
    },
    "usage": {"input_tokens": 80, "output_tokens": 0},
}
QUESTIONS = ("-q", "refund=Money back?", "-q", "team:billing|support", "-q", "anger:calm<upset<mad")


def uri(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


@pytest.mark.parametrize("given", ["argument", "file", "dash", "pipe"])
async def test_decide_prints_the_answers(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path, given: str
) -> None:
    """Yes or no, the option, and the nearest level."""
    fake.answers(DECISIONS)
    (tmp_path / "mail.txt").write_text("Twice!")
    arguments = {
        "argument": ["Twice!"],
        "file": [f"@{tmp_path}/mail.txt"],
        "dash": ["-"],
        "pipe": [],
    }[given]
    stdin = b"Twice!" if given in ("dash", "pipe") else b""
    done = await cfai.run("decide", *arguments, *QUESTIONS, stdin=stdin)
    assert (done.code, done.err) == (0, "")
    assert done.text == '{"refund":true,"team":"billing","anger":"mad"}\n'
    (request,) = fake.requests
    assert request.path.endswith("/ai/run/@cf/cloudflare/clef")
    assert request.json() == {
        "model": "clef",
        "state": "Twice!",
        "questions": {
            "refund": {"type": "noul", "instructions": "Money back?"},
            "team": {
                "type": "choice",
                "instructions": "team",
                "criteria": {"billing": None, "support": None},
            },
            "anger": {
                "type": "score",
                "instructions": "anger",
                "criteria": ["calm", "upset", "mad"],
            },
        },
    }


async def test_decide_takes_questions_as_json(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path
) -> None:
    """In the form of the service, also from a file, beside others."""
    fake.answers(DECISIONS)
    team = {"type": "choice", "instructions": "Who?", "criteria": {"billing": "money", "hr": None}}
    anger = {"type": "score", "instructions": "How?", "criteria": ["calm", "mad"]}
    (tmp_path / "team.json").write_text(json.dumps({"team": team}))
    done = await cfai.run(
        *("decide", "Hi", "-q", f"@{tmp_path}/team.json", "-q", json.dumps({"anger": anger})),
        *("-q", "refund: bool = A = B?"),
    )
    # The service rated beyond the levels: the score itself.
    assert done.code == 1
    assert done.err == "error: anger: the answer must be a level from 0 to 1, got 1.6\n"
    assert json.loads(done.text) == {"team": "billing", "anger": 1.6, "refund": True}
    assert fake.requests[0].json()["questions"] == {
        "team": team,
        "anger": anger,
        "refund": {"type": "noul", "instructions": "A = B?"},
    }


async def test_decide_takes_media(cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path) -> None:
    """Images, sounds and videos in their fields; the text of a file is a part of the state."""
    fake.answers(DECISIONS)
    for name, data in (("a.png", PNG), ("a.wav", WAV), ("a.mp4", MP4), ("a.txt", b"Hello\n")):
        (tmp_path / name).write_bytes(data)
    files = [argument for name in ("a.png", "a.wav", "a.mp4", "a.txt")
             for argument in ("-a", str(tmp_path / name))]  # fmt: skip
    done = await cfai.run("decide", *QUESTIONS, *files, "-m", "@cf/cloudflare/clef-omni")
    assert (done.code, done.err) == (0, "")
    body = fake.requests[0].json()
    assert body["model"] == "clef-omni"
    assert body["state"] == "a.txt:\n\nHello"
    assert body["images"] == [uri(PNG, "image/png")]
    assert body["audio"] == [uri(WAV, "audio/wav")]
    assert body["videos"] == [uri(MP4, "video/mp4")]


async def test_extract_prints_the_values(cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path) -> None:
    """A value that the text does not determine is null, and no error."""
    fake.always.answers(EXTRACTION)
    fields = ("-f", "number=The number", "-f", "total:float", "-f", "due:date")
    done = await cfai.run("extract", "Invoice A1", *fields)
    assert (done.code, done.err) == (0, "")
    assert done.text == '{"number":"A1","total":125.5,"due":null}\n'
    assert fake.requests[0].json() == {
        "model": "clairic",
        "state": "Invoice A1",
        "fields": {
            "number": {"type": "text", "instructions": "The number"},
            "total": {"type": "number"},
            "due": {"type": "date"},
        },
    }
    (tmp_path / "a.png").write_bytes(PNG)
    output = tmp_path / "out.json"
    more = ("-f", '{"total": {"type": "number", "unit": "USD"}}', "-o", str(output), "--json")
    done = await cfai.run("extract", "-a", str(tmp_path / "a.png"), *more)
    assert (done.code, done.out, done.err) == (0, b"", "")
    assert json.loads(output.read_text()) == EXTRACTION
    body = fake.requests[1].json()
    assert (body["state"], body["images"]) == ("", [uri(PNG, "image/png")])


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        ("str", {"type": "text"}),
        ("int", {"type": "number", "integer": True}),
        ("time", {"type": "time"}),
        ("datetime", {"type": "datetime"}),
        ("duration", {"type": "duration"}),
        ("list", {"type": "list"}),
    ],
)
async def test_the_types_of_fields(
    cfai: Cfai, fake: FakeWorkersAI, kind: str, field: dict[str, Any]
) -> None:
    fake.answers({"model": "clairic", "answers": {"x": {"type": "text", "value": None}}})
    assert (await cfai.run("extract", "Hi", "-f", f"x:{kind}")).text == '{"x":null}\n'
    assert fake.requests[0].json()["fields"] == {"x": field}


@pytest.mark.parametrize(
    ("field", "good", "bad", "rule"),
    [
        ("x:str", "a", 5, "a string, got 5"),
        ("x:int", 5, "5", 'a whole number, got "5"'),
        ("x:int", 5.0, 5.5, "a whole number, got 5.5"),
        ("x:float", 5, "5", 'a number, got "5"'),
        ("x:float", 5.5, True, "a number, got true"),
        ("x:date", "2026-01-31", "31.1.", 'a date such as 2026-01-31, got "31.1."'),
        ("x:time", "12:30:00", 12, "a time such as 12:00:00, got 12"),
        ("x:datetime", "2026-01-31T12:00:00Z", "noon", 'Z, got "noon"'),
        ("x:duration", 90, "90 s", 'a number, got "90 s"'),
        ("x:list", ["a", 5], "a", 'a list, got "a"'),
        ('{"x": {"type": "number", "integer": true}}', 5, 5.5, "a whole number, got 5.5"),
        ('{"x": {"type": "list", "items": "number"}}', [5], [5, "a"], 'a number, got "a"'),
        ('{"x": {"type": "list", "items": "date"}}', ["2026-01-31"], ["a"], 'got "a"'),
    ],
)
async def test_a_value_of_another_type_is_printed_and_an_error(
    cfai: Cfai, fake: FakeWorkersAI, field: str, good: Any, bad: Any, rule: str
) -> None:
    for value in (good, None):
        fake.answers({"model": "clairic", "answers": {"x": {"type": "any", "value": value}}})
        done = await cfai.run("extract", "Hi", "-f", field)
        assert (done.code, json.loads(done.text), done.err) == (0, {"x": value}, "")
    fake.answers({"model": "clairic", "answers": {"x": {"type": "any", "value": bad}}})
    done = await cfai.run("extract", "Hi", "-f", field)
    assert (done.code, json.loads(done.text)) == (1, {"x": bad})
    assert done.err.startswith("error: x: the answer")
    assert rule in done.err


async def test_types_without_a_rule_are_not_checked(cfai: Cfai, fake: FakeWorkersAI) -> None:
    fake.answers({"model": "clairic", "answers": {"x": {"type": "boolean", "value": True}}})
    done = await cfai.run("extract", "Hi", "-f", '{"x": {"type": "boolean"}}')
    assert (done.code, done.text, done.err) == (0, '{"x":true}\n', "")


@pytest.mark.parametrize(
    ("question", "answer", "problem"),
    [
        ("x:a|b", {"type": "choice", "choice": "c"}, "must be one of a, b, got 'c'"),
        ("x:a<b", {"type": "score", "score": -1}, "must be a level from 0 to 1, got -1"),
        ("x", {"type": "choice", "choice": "a"}, "must be a noul, got a ChoiceDecision"),
    ],
)
async def test_an_answer_to_another_question_is_printed_and_an_error(
    cfai: Cfai, fake: FakeWorkersAI, question: str, answer: Any, problem: str
) -> None:
    fake.answers({"model": "clef", "answers": {"x": answer}})
    done = await cfai.run("decide", "Hi", "-q", question)
    assert json.loads(done.text) == {"x": answer.get("choice", answer.get("score"))}
    assert (done.code, done.err) == (1, f"error: x: the answer {problem}\n")


@pytest.mark.parametrize("as_json", [False, True])
async def test_a_missing_answer_is_an_error_after_the_others(
    cfai: Cfai, fake: FakeWorkersAI, as_json: bool
) -> None:
    answers = {"refund": {"type": "noul", "noul": 0.2}, "team": {"type": "choice", "choice": 7}}
    fake.answers({"model": "clef", "answers": answers})
    done = await cfai.run("decide", "Hi", *QUESTIONS, *(["--json"] if as_json else []))
    assert done.code == 1
    shown = json.loads(done.text)
    if as_json:
        assert shown["answers"] == answers
    else:
        assert shown == {"refund": False, "team": None, "anger": None}
    first, second = done.err.splitlines()
    assert first.startswith("error: team: the answer is ")
    assert second == "error: anger: there is no answer"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["decide", "Hi"], "Missing option '--question' / '-q'"),
        (["extract", "Hi"], "Missing option '--field' / '-f'"),
        (["decide", "-q", "a"], "there is no text"),
        (["decide", "Hi", "-q", "a", "-q", "a"], "must give each name once, got a twice"),
        (["decide", "Hi", "-q", ""], "--question must be NAME[:TYPE][=TEXT], got ''"),
        (["decide", "Hi", "-q", "a:yes"], "--question a must have different options"),
        (["decide", "Hi", "-q", "a:yes|yes"], "--question a must have different options"),
        (["decide", "Hi", "-q", "a:low<"], "--question a must have different options"),
        (["decide", "Hi", "-q", "a:x|y<z"], "--question a must have different options"),
        (["decide", "Hi", "-q", "a:x<y|z=Which?"], "--question a must have different options"),
        (["decide", "Hi", "-q", "{"], "must be a JSON object"),
        (["decide", "Hi", "-q", '{"a": {"type": "x"}}'], "type must be one of noul, choice, score"),
        (["extract", "Hi", "-f", "a:bool"], "--field a must be one of str, int, float, date"),
        (["extract", "Hi", "-f", "a", "-m", "@cf/cloudflare/clef"], "must be a Clairic model"),
        (["decide", "Hi", "-q", "a", "-a", "missing.png"], "can't read missing.png"),
    ],
)
async def test_wrong_arguments_are_usage_errors(
    cfai: Cfai, fake: FakeWorkersAI, arguments: list[str], message: str
) -> None:
    """The exit code is 2, and nothing is sent."""
    done = await cfai.run(*arguments)
    assert done.code == 2
    assert message in done.err
    assert not fake.requests


async def test_a_sound_is_no_text_to_extract_from(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path
) -> None:
    (tmp_path / "a.wav").write_bytes(WAV)
    done = await cfai.run("extract", "-f", "a", "-a", str(tmp_path / "a.wav"))
    assert done.code == 2
    assert "a.wav can't be attached: it must be an image, a text or a document here" in done.err
    assert "hint: `cfai transcribe` gives the text" in done.err
    assert not fake.requests
