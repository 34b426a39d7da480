"""The answers of Clairic, in the form that its clients know, and odd ones.

Source: the excerpt of the output schema in PSAIClairic 0.2.0 (PowerShell Gallery); no official
schema was available.
"""

from typing import Any

import pytest

from cfai import (
    Decide,
    DecodeError,
    Estimate,
    Extract,
    ExtractedField,
    Extraction,
    InputError,
    Noul,
    Options,
    TextField,
    Usage,
)
from cfai._types.json import dumps
from cfai._wire.answers import answer_spec, read_answer
from cfai._wire.bodies import encode_run_body
from cfai._wire.responses import Response, read_meta
from cfai.testing import FakeWorkersAI

HEADERS = {"Content-Type": "application/json"}
MODEL = "@cf/cloudflare/clairic"
TASK = Extract("Ann paid $12.50.", {"name": TextField()})

KNOWN = (
    b'{"result":{"model":"clairic","answers":{'
    b'"name":{"type":"text","value":"Ann","guess":"Ann","p_null":0.01,"confidence":0.98,'
    b'"span":[0,3]},'
    b'"due":{"type":"date","value":null,"guess":"2026-11-30","p_null":0.9,"confidence":0.4,'
    b'"span":null,"source":"image"},'
    b'"items":{"type":"list","value":["a","b"],"spans":[[0,1],null],"confidences":[0.9,0.8],'
    b'"p_null":0},'
    b'"term":{"type":"duration","value":14,"unit":"days"},'
    b'"cost":{"type":"estimate","value":120,"mean":130.5,"median":120,"p10":80,"p90":200,'
    b'"p_below":0.01,"p_above":0.02,"quantiles":[70,75]},'
    b'"orders":{"type":"forecast","value":null,"steps":[{"mean":94,"median":95,"p10":80,"p90":110},'
    b'{"value":"2026-11-01","median":"2026-11-01"}]},'
    b'"flash":{"type":"text","value":"x","valid":true,"decoder":"d","tokens":3}},'
    b'"truncated":false,"state_text":"Ann paid $12.50.","usage":{"input_tokens":90,'
    b'"output_tokens":0,"state_tokens":9,"image_tokens":0,"schema_tokens":30,"passes":1}},'
    b'"success":true,"errors":[],"messages":[]}'
)


def read(body: bytes) -> Extraction:
    meta = read_meta(200, HEADERS, attempts=1, elapsed=0.0)
    answer = read_answer(answer_spec(TASK), Response(200, HEADERS, body, meta))
    assert isinstance(answer, Extraction)
    return answer


def read_one(entry: Any) -> Extraction:
    return read(dumps({"result": {"answers": {"f": entry, "ok": {"type": "text", "value": "x"}}}}))


def test_the_known_answers_are_read() -> None:
    extraction = read(KNOWN)
    assert dict(extraction) == {
        "name": ExtractedField("text", "Ann", "Ann", 0.01, 0.98, (0, 3)),
        "due": ExtractedField("date", None, "2026-11-30", 0.9, 0.4, None, "image"),
        "items": ExtractedField(
            "list", ["a", "b"], p_null=0.0, spans=((0, 1), None), confidences=(0.9, 0.8)
        ),
        "term": ExtractedField("duration", 14, unit="days"),
        "cost": ExtractedField(
            "estimate", 120, estimate=Estimate(120, 130.5, 120, 80, 200, 0.01, 0.02, (70, 75))
        ),
        "orders": ExtractedField(
            "forecast",
            None,
            steps=(
                Estimate(None, 94, 95, 80, 110),
                Estimate("2026-11-01", None, "2026-11-01"),
            ),
        ),
        "flash": ExtractedField("text", "x"),
    }
    assert extraction["flash"].raw["decoder"] == "d"
    assert extraction.truncated is False
    assert extraction.state_text == "Ann paid $12.50."
    assert extraction.usage == Usage(90, 0, 90)
    assert extraction.raw["usage"]["passes"] == 1
    assert extraction.to_dict()["answers"]["name"]["span"] == [0, 3]


def test_the_body_of_a_request_is_pinned() -> None:
    task = Extract("Ann", {"name": TextField("Who?")}, reference_date="2026-11-28")
    body = encode_run_body(MODEL, task, {})
    assert body.content == (
        b'{"model":"clairic","state":"Ann","fields":{"name":{"type":"text","instructions":"Who?"}},'
        b'"reference_date":"2026-11-28"}'
    )


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        ({"value": 1}, ExtractedField("", 1)),
        (
            {
                "type": "text",
                "value": "a",
                "p_null": "low",
                "confidence": None,
                "span": {"start": 0},
                "spans": 1,
                "confidences": {},
                "unit": 3,
                "source": [],
                "steps": [1],
            },
            ExtractedField("text", "a"),
        ),
        ({"type": "text", "value": "a", "span": [0, "3"]}, ExtractedField("text", "a")),
        (
            {"type": "estimate", "value": 1, "mean": None, "quantiles": [1, None]},
            ExtractedField("estimate", 1, estimate=Estimate(1, quantiles=(1,))),
        ),
    ],
)
def test_an_odd_side_field_spoils_that_field_only(entry: Any, field: ExtractedField) -> None:
    extraction = read_one(entry)
    assert extraction["f"] == field
    assert not extraction.unread


@pytest.mark.parametrize("entry", [{"type": "text"}, None, "text", []])
def test_an_odd_answer_spoils_that_field_only(entry: Any) -> None:
    extraction = read_one(entry)
    assert list(extraction) == ["ok"]
    assert list(extraction.unread) == ["f"]


@pytest.mark.parametrize("result", [{}, [], "text", {"answers": None}])
def test_a_result_without_answers_is_undocumented(result: Any) -> None:
    with pytest.raises(DecodeError, match="answers must be an object"):
        read(dumps({"result": result}))


async def test_reject_if_busy_is_added_to_the_options_of_clairic(fake: FakeWorkersAI) -> None:
    fake.says(KNOWN)
    task = Extract("Ann", {"name": TextField()}, include_quantiles=True)
    extraction = await fake.client().run(MODEL, task, options=Options(reject_if_busy=True))
    assert extraction["name"].value == "Ann"
    assert fake.requests[0].json()["options"] == {"include_quantiles": True, "rejectIfBusy": True}


async def test_reject_if_busy_is_refused_for_clef(fake: FakeWorkersAI) -> None:
    """Its validator answers 422 to options (README of langchain-cloudflare)."""
    task = Decide("Ann", {"paid": Noul("Did she pay?")})
    with pytest.raises(InputError, match="reject_if_busy must not be set for Decide"):
        await fake.client().run("@cf/cloudflare/clef", task, options=Options(reject_if_busy=True))
    assert not fake.requests


@pytest.mark.parametrize(
    ("model", "way"),
    [
        ("@cf/cloudflare/clef-omni", "call decide"),
        (MODEL, "call extract"),
        ("@cf/cloudflare/clairic-flash", "call extract"),
    ],
)
async def test_a_plain_text_is_refused(fake: FakeWorkersAI, model: str, way: str) -> None:
    with pytest.raises(InputError, match=f"{model} does not generate text: {way}"):
        await fake.client().run(model, "Hi")
    assert not fake.requests


async def test_a_queued_task_has_the_model_in_its_body(fake: FakeWorkersAI) -> None:
    fake.answers({"status": "queued", "request_id": "1"})
    await fake.client().queue(MODEL, [TASK])
    (queued,) = fake.requests[0].json()["requests"]
    assert queued == {
        "model": "clairic",
        "state": "Ann paid $12.50.",
        "fields": {"name": {"type": "text"}},
        "external_reference": "0",
    }
