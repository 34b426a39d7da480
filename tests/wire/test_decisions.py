"""The answers of Clef, by the bytes that its model card documents, and odd ones."""

from typing import Any

import pytest

from cfai import (
    Choice,
    ChoiceDecision,
    Decide,
    Decisions,
    DecodeError,
    Noul,
    NoulDecision,
    Score,
    ScoreDecision,
    Usage,
)
from cfai._types.json import dumps
from cfai._wire.answers import answer_spec, read_answer
from cfai._wire.bodies import encode_run_body
from cfai._wire.responses import Response, read_meta
from cfai.testing import FakeWorkersAI

HEADERS = {"Content-Type": "application/json"}
MODEL = "@cf/cloudflare/clef"
TASK = Decide("My card was charged twice!", {"spam": Noul("Is it spam?")})

# Source: the output schema of the model card of @cf/cloudflare/clef, in the service's envelope.
DOCUMENTED = (
    b'{"result":{"model":"clef","answers":{"spam":{"type":"noul","noul":0.02},'
    b'"team":{"type":"choice","choice":"billing","probabilities":{"billing":0.9,"support":0.1},'
    b'"confidence":0.8},"anger":{"type":"score","score":1.6,"legend":{"0":"calm","1":"upset",'
    b'"2":"furious"},"probabilities":{"0":0.1,"1":0.2,"2":0.7},"confidence":0.5}},'
    b'"usage":{"input_tokens":213,"output_tokens":0}},"success":true,"errors":[],"messages":[]}'
)


def read(body: bytes) -> Decisions:
    meta = read_meta(200, HEADERS, attempts=1, elapsed=0.0)
    answer = read_answer(answer_spec(TASK), Response(200, HEADERS, body, meta))
    assert isinstance(answer, Decisions)
    return answer


def read_one(entry: Any) -> Decisions:
    return read(dumps({"result": {"answers": {"q": entry, "ok": {"type": "noul", "noul": 1}}}}))


def test_the_documented_answers_are_read() -> None:
    decisions = read(DOCUMENTED)
    assert dict(decisions) == {
        "spam": NoulDecision(0.02),
        "team": ChoiceDecision("billing", {"billing": 0.9, "support": 0.1}, 0.8),
        "anger": ScoreDecision(
            1.6, {"0": 0.1, "1": 0.2, "2": 0.7}, {"0": "calm", "1": "upset", "2": "furious"}, 0.5
        ),
    }
    assert not decisions.noul("spam").yes
    assert decisions.choice("team").choice == "billing"
    assert decisions.score("anger").level == 2
    assert decisions.model == "clef"
    assert decisions.usage == Usage(213, 0, 213)
    assert decisions.raw["usage"] == {"input_tokens": 213, "output_tokens": 0}
    assert decisions.to_dict()["answers"]["spam"] == {"probability": 0.02}


def test_the_body_of_a_request_is_pinned() -> None:
    task = Decide(
        "Hi",
        {"a": Noul("A?"), "b": Choice.of("B?", "xy"), "c": Score("C?", ["l", "h"])},
        images=["data:image/png;base64,iVBORw0KGgo="],
    )
    body = encode_run_body("@cf/cloudflare/clef-flash", task, {})
    assert body.content_type == "application/json"
    assert body.content == (
        b'{"model":"clef-flash","state":"Hi",'
        b'"questions":{"a":{"type":"noul","instructions":"A?"},"b":{"type":"choice",'
        b'"instructions":"B?","criteria":{"x":null,"y":null}},"c":{"type":"score",'
        b'"instructions":"C?","criteria":["l","h"]}},'
        b'"images":["data:image/png;base64,iVBORw0KGgo="]}'
    )


@pytest.mark.parametrize(
    ("entry", "decision"),
    [
        ({"type": "choice", "choice": "a"}, ChoiceDecision("a")),
        (
            {
                "type": "choice",
                "choice": "a",
                "probabilities": {"a": 1, "b": None, "c": "0.1", "d": True},
                "confidence": "high",
                "new": 1,
            },
            ChoiceDecision("a", {"a": 1.0}),
        ),
        ({"type": "choice", "choice": "a", "probabilities": [1]}, ChoiceDecision("a")),
        ({"type": "score", "score": 1, "legend": None, "probabilities": 2}, ScoreDecision(1.0)),
    ],
)
def test_an_odd_side_field_spoils_that_field_only(entry: Any, decision: Any) -> None:
    decisions = read_one(entry)
    assert decisions["q"] == decision
    assert not decisions.unread


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"type": "noul", "noul": None}, "noul must be a number, got None"),
        ({"type": "noul", "noul": True}, "noul must be a number, got True"),
        ({"type": "score", "score": "2"}, "score must be a number, got '2'"),
        ({"type": "choice", "choice": None}, "undocumented: {'type': 'choice'"),
        ({"type": "rank", "rank": 1}, "undocumented: {'type': 'rank'"),
        (None, "no object: None"),
    ],
)
def test_an_odd_answer_spoils_that_question_only(entry: Any, reason: str) -> None:
    decisions = read_one(entry)
    assert decisions.noul("ok").yes
    assert list(decisions) == ["ok"]
    assert reason in decisions.unread["q"]
    with pytest.raises(DecodeError, match="the answer to 'q' is"):
        decisions.choice("q")


@pytest.mark.parametrize("result", [{}, [], "text", {"answers": None}, {"answers": []}])
def test_a_result_without_answers_is_undocumented(result: Any) -> None:
    with pytest.raises(DecodeError, match="answers must be an object"):
        read(dumps({"result": result}))


def test_an_answer_is_of_the_type_that_was_expected() -> None:
    decisions = read(DOCUMENTED)
    with pytest.raises(DecodeError, match="the answer to 'spam' must be a ScoreDecision"):
        decisions.score("spam")
    with pytest.raises(KeyError):
        decisions.noul("other")


async def test_decisions_over_a_socket(fake: FakeWorkersAI) -> None:
    fake.says(DOCUMENTED)
    decisions = await fake.client().run(MODEL, TASK)
    assert decisions.noul("spam").probability == 0.02
    assert decisions.meta.attempts == 1
    assert fake.requests[0].path.endswith("/ai/run/@cf/cloudflare/clef")
    assert fake.requests[0].json()["model"] == "clef"
