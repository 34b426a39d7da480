"""The queue over a real socket: a batch is submitted once, polled until done, one item per task."""

import asyncio
from types import NoneType
from typing import Any

import pytest

from cfai import Polling, QueuedBatch, WorkersAI
from cfai.errors import (
    BadRequest,
    CapacityExceeded,
    CfaiError,
    ConnectionLost,
    DecodeError,
    InputError,
    RequestTimeout,
    ServerError,
    StatusError,
)
from cfai.settings import Options, Retries
from cfai.tasks import (
    ImageToText,
    Prompt,
    Ranking,
    Rerank,
    Result,
    Text,
    TextEmbeddings,
    TextGeneration,
    Tool,
    Usage,
    user,
)
from cfai.testing import FakeWorkersAI

# Cloudflare docs, Workers AI, "Batch API", REST API.
QUEUED = b"""{
	"result": {
		"status": "queued",
		"request_id": "768f15b7-4fd6-4498-906e-ad94ffc7f8d2",
		"model": "@cf/baai/bge-m3"
	},
	"success": true,
	"errors": [],
	"messages": []
}"""
DONE = b"""{
	"result": {
		"responses": [
			{
				"id": 0,
				"result": {
					"response": [
						{ "id": 0, "score": 0.73974609375 },
						{ "id": 1, "score": 0.642578125 },
						{ "id": 2, "score": 0.6220703125 }
					]
				},
				"success": true,
				"external_reference": "reference-1"
			}
		],
		"usage": { "prompt_tokens": 12, "completion_tokens": 0, "total_tokens": 12 }
	},
	"success": true,
	"errors": [],
	"messages": []
}"""
ID = "768f15b7-4fd6-4498-906e-ad94ffc7f8d2"
M3, LLAMA = "@cf/baai/bge-m3", "@cf/meta/llama-3.3-70b-instruct-fp8-fast"
AT_ONCE = Polling(base=0)
TWO = [Prompt("one"), Prompt("two")]


async def queue(ai: WorkersAI, tasks: Any = TWO, model: str = LLAMA) -> QueuedBatch[Any]:
    return await ai.queue(model, tasks, polling=AT_ONCE)


def row(number: int | None, text: str, **rest: Any) -> dict[str, Any]:
    return {"id": number, "result": {"response": text}, "success": True, **rest}


async def items(fake: FakeWorkersAI, *rows: Any, tasks: Any = TWO) -> list[Any]:
    fake.says(QUEUED).answers({"responses": list(rows)})
    batch = await queue(fake.client(), tasks)
    return await batch.wait()


async def test_the_documented_example(fake: FakeWorkersAI) -> None:
    """Queued, running, done: a ranking of the documents that were sent."""
    fake.says(QUEUED).answers({"status": "running", "request_id": ID}).says(DONE)
    batch = await queue(
        fake.client(), {"reference-1": Rerank("Cloudflare", ["a", "b", "c"])}, model=M3
    )
    assert (batch.request_id, batch.done, batch.model) == (ID, False, M3)
    assert repr(batch) == f"<QueuedBatch {ID} of {M3}: queued>"
    assert await batch.poll() is None
    (item,) = [item async for item in batch]
    assert isinstance(item.answer, Ranking)
    assert [ranked.text for ranked in item.answer] == ["a", "b", "c"]
    assert (item.reference, item.failed, item.error) == ("reference-1", False, None)
    assert item.result() is item.answer
    assert item.answer.meta.status == 200
    assert batch.done
    assert batch.usage == Usage(12, 0, 12)
    assert "done" in repr(batch)

    address = f"/client/v4/accounts/account/ai/run/{M3}?queueRequest=true"
    assert [request.target for request in fake.requests] == [address] * 3
    assert [request.json() for request in fake.requests] == [
        {
            "requests": [
                {
                    "query": "Cloudflare",
                    "contexts": [{"text": "a"}, {"text": "b"}, {"text": "c"}],
                    "external_reference": "reference-1",
                }
            ]
        },
        {"request_id": ID},
        {"request_id": ID},
    ]


async def test_a_finished_batch_is_not_polled_again(fake: FakeWorkersAI) -> None:
    """The items are kept."""
    fake.says(QUEUED).answers({"responses": [row(0, "a"), row(1, "b")]})
    batch = await queue(fake.client())
    assert await batch.wait() == await batch.poll() == [item async for item in batch]
    assert len(fake.requests) == 2


async def test_items_are_matched_by_reference(fake: FakeWorkersAI) -> None:
    """In the order of the tasks, whatever the order of the response."""
    one, two = await items(
        fake,
        row(1, "second", external_reference="1"),
        row(0, "first", external_reference="0"),
    )
    assert (one.reference, str(one.answer)) == ("0", "first")
    assert (two.reference, str(two.answer)) == ("1", "second")


async def test_items_without_a_reference_are_matched_by_number(fake: FakeWorkersAI) -> None:
    """A documented `null` is not a reference."""
    one, two = await items(
        fake, row(1, "second", external_reference=None), row(0, "first", external_reference=None)
    )
    assert (str(one.answer), str(two.answer)) == ("first", "second")


async def test_a_failed_item_has_an_error(fake: FakeWorkersAI) -> None:
    """The others keep their answers; the code decides the class of the error."""
    failed = {"id": 0, "success": False, "errors": [{"code": 3040, "message": "busy"}]}
    one, two = await items(fake, failed, row(1, "b"))
    assert isinstance(one.error, CapacityExceeded)
    assert (one.failed, one.answer, one.raw) == (True, None, failed)
    with pytest.raises(CapacityExceeded, match="busy"):
        one.result()
    assert str(two.answer) == "b"


@pytest.mark.parametrize(
    ("odd", "kind", "reason"),
    [
        ({"id": 0, "success": False}, StatusError, "without a reason"),
        ({"id": 0, "error": "too long"}, StatusError, "too long"),
        ({"id": 0, "success": False, "result": {"response": "a"}}, StatusError, "without a reason"),
        ({"id": 0, "success": True}, DecodeError, "an item must have a result"),
        ({"id": 0, "success": True, "result": 5}, DecodeError, ""),
    ],
)
async def test_undocumented_items_have_errors(
    fake: FakeWorkersAI, odd: dict[str, Any], kind: type[CfaiError], reason: str
) -> None:
    """Each has its own error."""
    one, two = await items(fake, odd, row(1, "b"))
    assert isinstance(one.error, kind)
    assert reason in str(one.error)
    assert str(two.answer) == "b"


async def test_missing_and_unknown_items(fake: FakeWorkersAI) -> None:
    """Every task has an item, and no item is discarded."""
    one, two, *others = await items(
        fake, row(0, "a"), row(0, "again"), row(None, "nobody's"), row(9, "nobody's"), 5
    )
    assert str(one.error) == "the service gave contradictory results for this task"
    assert str(two.error) == "the service gave no result for this task"
    assert [other.reference for other in others] == [None] * 5
    assert [type(other.answer) for other in others] == [*[Result] * 4, NoneType]


@pytest.mark.parametrize(
    ("rows", "failed"),
    [
        # The references are exchanged, and the numbers are not.
        ([(0, "1"), (1, "0"), (2, "2")], {0, 1}),
        # One reference is wrong.
        ([(0, "0"), (1, "0"), (2, "2")], {0, 1}),
        ([(0, "0"), (1, "x"), (2, "2")], {1}),
        # Two rows for one task.
        ([(0, "0"), (0, "0"), (1, "1"), (2, "2")], {0}),
        ([(0, None), (None, "0"), (1, "1"), (2, "2")], {0}),
        # All have the same reference.
        ([(0, "1"), (1, "1"), (2, "1")], {0, 1, 2}),
        # One of both is enough, also if the number makes no sense.
        ([(None, "2"), (1, None), ("0", "0")], set()),
        ([(7, "2"), (-1, "1"), (True, "0")], set()),
        # Numbers alone: from 1, from -1, and one that is wrong. They may be those of other tasks.
        ([(1, None), (2, None), (3, None)], {0, 1, 2}),
        ([(-1, None), (0, None), (1, None)], {0, 1, 2}),
        ([(0, None), (1, None), (9, None)], {0, 1, 2}),
        ([(1, "0"), (2, None), (3, "2")], {0, 1, 2}),
        ([(2, None), (0, None), (1, None)], set()),
        # Numbers alone, and not of all tasks: they may begin at 1.
        ([(0, None), (2, None)], {0, 1, 2}),
        ([(1, None), (2, None)], {0, 1, 2}),
        ([(1, None)], {0, 1, 2}),
        ([(2, None), (0, None), (1, None), (9, None)], {0, 1, 2}),
        ([(0, None), (1, None), (2, None), (2, None)], {2}),
        # They are those of the tasks that no reference names, or not.
        ([(0, "0"), (2, None), (None, "1")], set()),
        ([(None, "0"), (1, None), (None, "2")], set()),
        ([(None, "0"), (2, None)], {1, 2}),
        ([(None, "1"), (1, None), (3, None)], {0, 1, 2}),
    ],
)
async def test_rows_that_contradict_each_other_fail(
    fake: FakeWorkersAI, rows: list[tuple[Any, str | None]], failed: set[int]
) -> None:
    """Nobody gets the answer of another task."""
    result = await items(
        fake,
        *(
            row(number, f"{number} {name} at {place}", external_reference=name)
            for place, (number, name) in enumerate(rows)
        ),
        tasks=[Prompt(word) for word in "abc"],
    )
    assert {place for place, item in enumerate(result[:3]) if item.failed} == failed
    for place in {0, 1, 2} - failed:
        assert str(place) in str(result[place].answer)


@pytest.mark.parametrize("name", [str, lambda _: None])
async def test_rows_that_come_twice_contradict_nothing(fake: FakeWorkersAI, name: Any) -> None:
    """If they are the same: the answers were paid for."""
    rows = [row(place, f"answer {place}", external_reference=name(place)) for place in range(3)]
    tasks = [Prompt(word) for word in "abc"]
    result = await items(fake, *rows, *reversed(rows), rows[1], tasks=tasks)
    assert [str(item.answer) for item in result] == ["answer 0", "answer 1", "answer 2"]


async def test_references(fake: FakeWorkersAI) -> None:
    """Numbers, names of a mapping, and references of the tasks themselves."""
    fake.always.says(QUEUED)
    ai = fake.client()
    await queue(ai, [Prompt("a"), {"prompt": "b", "external_reference": "mine"}])
    await queue(ai, {"x": {"text": ["c"]}, "y": TextEmbeddings("d")})
    await queue(ai, (Prompt(word, extra={"external_reference": word}) for word in ("e", "f")))
    assert [
        [sent["external_reference"] for sent in request.json()["requests"]]
        for request in fake.requests
    ] == [["0", "mine"], ["x", "y"], ["e", "f"]]


async def test_tasks_are_written_as_the_model_needs_them(fake: FakeWorkersAI) -> None:
    """As for a run."""
    fake.says(QUEUED)
    await queue(fake.client(), [Prompt("a", thinking=False)], "@cf/google/gemma-4-26b-a4b-it")
    (sent,) = fake.requests[-1].json()["requests"]
    assert sent["chat_template_kwargs"] == {"enable_thinking": False}
    assert "thinking" not in sent
    with pytest.raises(InputError, match="thinking must not be set"):
        await queue(fake.client(), [Prompt("a", thinking=False)])


@pytest.mark.parametrize(
    ("tasks", "reason"),
    [
        ([], "must not be empty"),
        ("text", "must be an iterable of tasks, got str"),
        (5, "must be an iterable of tasks, got int"),
        ({"prompt": "a"}, r"tasks\[0\] must be a task or a mapping, got str"),
        ([ImageToText(b"x")], r"tasks\[0\] must not contain media"),
        ([Prompt("a", stream=True)], r"tasks\[0\] must not request a stream"),
        (
            [{"external_reference": 5}],
            r"tasks\[0\]: external_reference must be a non-empty string, got 5",
        ),
        ({"": Prompt("a")}, "external_reference must be a non-empty string"),
        ([Prompt("a"), {"external_reference": "0"}], "its own external_reference"),
    ],
)
async def test_invalid_tasks_are_refused(fake: FakeWorkersAI, tasks: Any, reason: str) -> None:
    """Nothing is sent."""
    with pytest.raises(InputError, match=reason):
        await queue(fake.client(), tasks)
    assert not fake.requests


async def test_a_batch_is_submitted_once(fake: FakeWorkersAI) -> None:
    """Twice would be charged twice; polls are retried."""
    ai = fake.client(retries=Retries(max=2, base=0))
    fake.hangs_up()
    with pytest.raises(ConnectionLost):
        await queue(ai)
    fake.fails(500, 8005, "internal")
    with pytest.raises(ServerError):
        await queue(ai)
    assert len(fake.requests) == 2
    fake.fails(429, 3040, "busy").says(QUEUED)
    batch = await queue(ai)
    fake.hangs_up().fails(500, 8005, "internal").answers({"responses": [row(0, "a")]})
    assert (await batch.wait())[0].reference == "0"


async def test_a_batch_can_be_done_at_once(fake: FakeWorkersAI) -> None:
    """A service may answer instead of queueing."""
    fake.answers({"responses": [row(0, "a"), row(1, "b")]})
    batch = await queue(fake.client())
    assert (batch.done, batch.request_id) == (True, None)
    assert [str(item.answer) for item in await batch.wait()] == ["a", "b"]
    assert len(fake.requests) == 1


@pytest.mark.parametrize(
    "result",
    [{}, [], "queued", {"status": 5}, {"status": "done"}, {"status": "queued"}, {"response": ""}],
)
async def test_a_response_without_a_request_id(fake: FakeWorkersAI, result: Any) -> None:
    """The batch could not be polled."""
    fake.answers(result)
    with pytest.raises(DecodeError):
        await queue(fake.client())


async def test_a_failed_batch(fake: FakeWorkersAI) -> None:
    """A status that says so ends the wait, as does a refusal."""
    ai = fake.client()
    fake.says(QUEUED).answers({"status": "Failed", "request_id": ID})
    batch = await queue(ai)
    for _ in range(2):
        with pytest.raises(StatusError, match="the batch ended with status 'Failed'"):
            await batch.wait()
        assert len(fake.requests) == 2
    fake.answers({"status": "failed", "error": "boom"})
    fake.answers({"status": "failed", "error": "boom"})
    with pytest.raises(StatusError, match="boom"):
        await queue(ai)
    with pytest.raises(StatusError, match="boom"):
        await ai.queued(LLAMA, ID).poll()
    fake.says(QUEUED).answers({"status": "COMPLETED", "request_id": ID})
    with pytest.raises(DecodeError, match="'COMPLETED'"):
        await (await queue(ai)).wait()
    fake.says(QUEUED).fails(400, 5006, "no such request")
    with pytest.raises(BadRequest, match="no such request"):
        await (await queue(ai)).wait()


@pytest.mark.parametrize("seconds", [0, 0.2])
async def test_wait_with_a_timeout(fake: FakeWorkersAI, seconds: float) -> None:
    """It polls at least once; afterwards, the batch can be waited for again."""
    fake.says(QUEUED)
    batch = await fake.client().queue(LLAMA, TWO)
    fake.always.answers({"status": "queued", "request_id": ID})
    with pytest.raises(RequestTimeout, match="goes on") as caught:
        await batch.wait(seconds)
    assert (caught.value.phase, caught.value.limit) == ("total", seconds)
    fake.always.answers({"responses": [row(0, "a"), row(1, "b")]})
    assert len(await batch.wait(0)) == 2


@pytest.mark.parametrize("late", ["stalls", "refuses"])
async def test_the_timeout_includes_requests(fake: FakeWorkersAI, late: str) -> None:
    """A service that does not respond is not waited for beyond the timeout."""
    fake.says(QUEUED)
    batch = await fake.client().queue(LLAMA, TWO)
    if late == "stalls":
        fake.stalls()
    else:
        fake.fails(429, 3040, "busy", headers={"retry-after": "50"})
    async with asyncio.timeout(10):
        with pytest.raises(RequestTimeout, match="was not done after"):
            await batch.wait(0.2)


@pytest.mark.parametrize("seconds", [-1, float("nan"), "5", True])
async def test_the_timeout_is_checked(fake: FakeWorkersAI, seconds: Any) -> None:
    fake.says(QUEUED)
    batch = await fake.client().queue(LLAMA, TWO)
    with pytest.raises(InputError, match="timeout must be 0 or more seconds"):
        await batch.wait(seconds)
    assert len(fake.requests) == 1


async def test_waiting_can_be_cancelled(fake: FakeWorkersAI) -> None:
    """Also during a pause."""
    fake.says(QUEUED).always.answers({"status": "queued", "request_id": ID})
    batch = await fake.client().queue(LLAMA, TWO, polling=Polling(base=3600, cap=3600))
    task = asyncio.create_task(batch.wait())
    await fake.until(lambda: len(fake.requests) == 2 and fake.requests[1].answered.is_set())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_queued_returns_a_submitted_batch(fake: FakeWorkersAI) -> None:
    """With the tasks, the answers have their classes; without, they are a `Result`."""
    ai = fake.client()
    fake.always.answers({"responses": [row(0, "a"), row(1, "b")]})
    batch = ai.queued(LLAMA, ID, TWO)
    assert not fake.requests
    assert [type(item.answer) for item in await batch.wait()] == [Text, Text]
    options = Options(headers={"X-Mine": "1"})
    (one, two) = await ai.queued(LLAMA, ID, options=options).wait()
    assert (one.answer, two.reference) == (Result({"response": "a"}), None)
    assert fake.requests[-1].headers["X-Mine"] == "1"
    for odd in ("", None, 5):
        with pytest.raises(InputError, match="request_id"):
            ai.queued(LLAMA, odd)  # type: ignore[arg-type]  # no texts


def test_pauses_grow_up_to_a_limit() -> None:
    """By the factor that is set."""
    polling = Polling()
    assert [polling.pause(look) for look in (1, 2, 3)] == [1.0, 1.5, 2.25]
    assert polling.pause(10**9) == 30.0
    assert Polling(base=0).pause(5) == 0
    assert Polling(factor=1e6).pause(64) == 30
    assert [Polling(factor=0, base=2).pause(look) for look in (1, 2)] == [2, 0]


@pytest.mark.parametrize("field", ["base", "factor", "cap"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "1", True, None])
def test_polling_is_checked(field: str, value: Any) -> None:
    """A pause is 0 or more."""
    with pytest.raises(InputError, match=rf"Polling\.{field} must be a finite number"):
        Polling(**{field: value})


GPT_OSS = "@cf/openai/gpt-oss-120b"


async def test_the_queue_of_gpt_oss_takes_the_input_of_responses(fake: FakeWorkersAI) -> None:
    """The card of @cf/openai/gpt-oss-120b, "Responses_Async": `requests` of `input`."""
    fake.says(QUEUED)
    tasks = [
        Prompt("one", max_tokens=5, temperature=0.5),
        TextGeneration([user("two", "three")], extra={"reasoning": {"effort": "low"}}),
        TextGeneration([user("four")], max_completion_tokens=6, top_p=0.5, thinking=True),
        {"messages": [], "external_reference": "open"},
    ]
    await queue(fake.client(), tasks, GPT_OSS)
    assert fake.requests[0].json() == {
        "requests": [
            {
                "input": "one",
                "max_output_tokens": 5,
                "temperature": 0.5,
                "external_reference": "0",
            },
            {
                "input": [{"role": "user", "content": "two\nthree"}],
                "reasoning": {"effort": "low"},
                "external_reference": "1",
            },
            {
                "input": [{"role": "user", "content": "four"}],
                "max_output_tokens": 6,
                "top_p": 0.5,
                "external_reference": "2",
            },
            {"messages": [], "external_reference": "open"},
        ]
    }


@pytest.mark.parametrize(
    ("task", "name"),
    [
        (Prompt("a", seed=1), "seed"),
        (Prompt("a", stop="b"), "stop"),
        (Prompt("a", n=1), "n"),
        (Prompt("a", logprobs=True), "logprobs"),
        (Prompt("a", top_logprobs=1), "top_logprobs"),
        (Prompt("a", reasoning_effort="low"), "reasoning_effort"),
        (Prompt("a", reasoning_effort=None), "reasoning_effort"),
        (Prompt("a", chat_template_kwargs={"b": 1}), "chat_template_kwargs"),
        (TextGeneration([user("a")], tool_choice="auto"), "tool_choice"),
        (TextGeneration([user("a")], parallel_tool_calls=False), "parallel_tool_calls"),
        (Prompt("a", response_format="json_object"), "response_format"),
        (TextGeneration([user("a")], tools=[Tool("b", "c", {})]), "tools"),
    ],
)
async def test_the_queue_of_gpt_oss_refuses_what_responses_do_not_have(
    fake: FakeWorkersAI, task: Any, name: str
) -> None:
    with pytest.raises(InputError, match=f"{name} must be left out: {GPT_OSS} has no"):
        await queue(fake.client(), [task], GPT_OSS)
    assert not fake.requests


async def test_two_fields_of_one_name_are_refused(fake: FakeWorkersAI) -> None:
    """Which of them would count is not known."""
    both = Prompt("a", max_tokens=1, max_completion_tokens=2)
    expected = f"max_completion_tokens must be left out: max_output_tokens of {GPT_OSS} is set"
    with pytest.raises(InputError, match=expected):
        await queue(fake.client(), [both], GPT_OSS)
    assert not fake.requests


async def test_queued_tasks_are_adapted_to_their_model(fake: FakeWorkersAI) -> None:
    """As in a run."""
    fake.says(QUEUED)
    model = "@cf/mistralai/mistral-small-3.1-24b-instruct"
    schema = {"type": "object"}
    await queue(fake.client(), [Prompt("a", response_format=schema)], model)
    (sent,) = fake.requests[0].json()["requests"]
    assert sent == {"guided_json": schema, "prompt": "a", "external_reference": "0"}


async def test_the_raw_item_of_a_batch_has_no_vectors(fake: FakeWorkersAI) -> None:
    item = (
        b'{"id":0,"external_reference":"0","success":true,'
        b'"result":{"shape":[1,2],"data":[[1,2]],"pooling":"cls"}}'
    )
    fake.says(b'{"result":{"responses":[' + item + b']},"success":true}')
    batch = await queue(fake.client(), [TextEmbeddings("a")], M3)
    (done,) = await batch.wait()
    assert done.result().tolist() == [[1.0, 2.0]]
    assert done.raw["result"] == {"shape": [1, 2], "pooling": "cls"}
