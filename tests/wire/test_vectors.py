"""Vectors decoded row by row equal those of the whole document, whatever it contains."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from cfai._wire.answers import AnswerSpec, read_answer
from cfai._wire.errors import read_document
from cfai._wire.responses import Response, read_meta
from cfai._wire.vectors import UnusualVectors, VectorDecoder
from cfai.errors import DecodeError
from cfai.resources.queue import build_queued_tasks, read_batch_status
from cfai.tasks import Embeddings, TextEmbeddings
from cfai.testing import FakeWorkersAI

HEADERS = {"Content-Type": "application/json"}
ROOM = " " * 70_000
"""Whitespace that makes a response large enough to be decoded in slices."""


def response(body: str | bytes) -> Response:
    raw = body.encode() if isinstance(body, str) else body
    return Response(200, HEADERS, raw, read_meta(200, HEADERS, attempts=1, elapsed=0))


def read_whole(body: str) -> Any:
    return read_answer(AnswerSpec(Embeddings), response(body))


def read_in_slices(body: str) -> tuple[Any, int]:
    """The answer, and how many steps it took."""
    vectors = VectorDecoder()
    found = read_answer(AnswerSpec(Embeddings), vectors.wrap(response(body)))
    return found, sum(1 for _ in vectors.steps())


def answer(data: str, rest: str = '"pooling":"cls"') -> str:
    return f'{{"success":true,{ROOM}"result":{{{rest},"data":{data}}}}}'


NUMBERS = st.floats(-1e38, 1e38) | st.integers(-(10**20), 10**20) | st.just(-0.0)


@st.composite
def documents(draw: st.DrawFn) -> str:
    width = draw(st.integers(1, 5))
    rows = draw(st.lists(st.lists(NUMBERS, min_size=width, max_size=width), min_size=1))
    result = {"usage": {"prompt_tokens": 3}, "shape": [len(rows), width], "pooling": 'a"b]['}
    key = draw(st.sampled_from(["data", "response"]))
    items = draw(st.permutations([*result.items(), (key, rows)]))
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\n\t", " :\r\n")]))
    outer = draw(st.permutations([("result", dict(items)), ("messages", ["\ud83d", "x" * 70_000])]))
    indent = draw(st.sampled_from([None, 1]))
    return json.dumps(dict(outer), separators=separators, indent=indent).replace("\\ud83d", "é")


@settings(max_examples=100, deadline=None)
@given(documents())
def test_slices_give_the_same_answer_as_the_whole(body: str) -> None:
    """For any layout and any numbers."""
    one, (other, _) = read_whole(body), read_in_slices(body)
    assert other.buffer == one.buffer
    assert (other.shape, other.pooling, other.usage) == (one.shape, one.pooling, one.usage)
    assert other.raw == one.raw


def test_a_large_response_is_decoded_in_slices() -> None:
    row = f"[{','.join(['0.5'] * 1024)}]"
    found, steps = read_in_slices(answer(f"[{','.join([row] * 100)}]"))
    assert found.shape == (100, 1024)
    assert set(found.buffer) == {0.5}
    assert steps == 13


def test_a_small_response_is_decoded_at_once() -> None:
    """It does not block the event loop for long."""
    vectors = VectorDecoder()
    small = response('{"result":{"data":[[1,2]]}}')
    found: Any = read_answer(AnswerSpec(Embeddings), vectors.wrap(small))
    assert found.tolist() == [[1, 2]]
    assert list(vectors.steps()) == []


WRONG = [
    "[[1,true]]",
    "[[1,2],[3,4],[5,true]]",
    "[[1,2],[false,4],[5,6]]",
    "[[false]]",
    "[[1,null]]",
    "[[1],[1,2]]",
    '[["a"]]',
    '[["]"]]',
    "[[[1]]]",
    "[[1],2]",
    "[[1e39]]",
    "[[-4e38]]",
    "[[]]",
    "[[ ]]",
    "[[1],{}]",
    "[[1],[2]",
    "[[1,]]",
    "[[1]]]",
    "[[NaN]]",
    "[[1e999]]",
    f"[[1,{'9' * 400}]]",
]


@pytest.mark.parametrize("data", WRONG)
async def test_wrong_vectors_are_an_error(fake: FakeWorkersAI, data: str) -> None:
    """Booleans, nulls, numbers too large, rows of several lengths: in slices as in the whole."""
    with pytest.raises(DecodeError) as one:
        read_whole(answer(data))
    fake.says(answer(data))
    with pytest.raises(DecodeError) as other:
        await fake.client().run("@cf/a/b", TextEmbeddings(["one"] * (data.count("],") + 1)))
    assert str(other.value).splitlines()[0] == str(one.value).splitlines()[0]


@pytest.mark.parametrize("data", [b"[[1,2.5]]", b"[[true]]"])
def test_small_responses_are_checked_the_same(data: bytes) -> None:
    body = b'{"result":{"data":%b}}' % data
    if data == b"[[true]]":
        with pytest.raises(DecodeError, match="numbers only"):
            read_whole(body.decode())
    else:
        assert read_whole(body.decode()).tolist() == [[1, 2.5]]


@pytest.mark.parametrize(
    "body",
    [
        '{"result":{"note":"\\"data\\":[[1]]","data":[[1,2]]},"x":"%s"}',
        '{"result":{"other":{"data":[[5]]},"data":[[1,2]]},"x":"%s"}',
        '{"data":[[7]],"result":{"data":[[1,2]]},"x":"%s"}',
        '{"result":{"data":[[1,2]],"response":[[3]]},"x":"%s"}',
    ],
)
def test_text_that_looks_like_vectors_is_left_alone(body: str) -> None:
    """In a string, or in another place."""
    body = body.replace("%s", "x" * 70_000)
    found, _ = read_in_slices(body)
    assert found.tolist() == [[1, 2]]
    assert found.raw == read_whole(body).raw


def test_a_number_instead_of_vectors_is_an_error() -> None:
    """The service cannot guess the mark that stands for vectors."""
    with pytest.raises(DecodeError):
        read_in_slices(answer("0"))
    with pytest.raises(DecodeError):
        read_in_slices(answer("0", '"other":{"data":[[1]]}'))


@pytest.mark.parametrize(
    "result",
    [
        '[{"data":[[1,2]]}]',
        '[[{"response":[[1,2]]}]]',
        '[{"result":{"data":[[1,2]]}}]',
        '{"other":{"data":[[1,2]]}}',
        '{"responses":{"data":[[1,2]]}}',
    ],
)
def test_an_error_shows_vectors_in_another_place(result: str) -> None:
    """The answer as it came, as if it had been decoded at once."""
    body = f'{{{ROOM}"result":{result}}}'
    with pytest.raises(DecodeError) as one:
        read_whole(body)
    with pytest.raises(DecodeError) as other:
        read_in_slices(body)
    assert (str(other.value), other.value.body) == (str(one.value), one.value.body)
    assert "[[1, 2]]" in str(other.value)


def batch(*results: str) -> str:
    items = [
        f'{{"external_reference":"{at}","success":true,"result":{{"data":{data}}}}}'
        for at, data in enumerate(results)
    ]
    return f'{{"result":{{"responses":[{",".join(items)}]}},{ROOM}"success":true}}'


def read_batch(body: str, vectors: VectorDecoder | None = None) -> Any:
    tasks = build_queued_tasks(
        "@cf/baai/bge-m3", [TextEmbeddings("a") for _ in range(body.count("external_reference"))]
    )
    received = response(body) if vectors is None else vectors.wrap(response(body))
    return read_batch_status(read_document(received), received.meta, tasks)


def test_every_item_of_a_batch_is_decoded_in_slices() -> None:
    vectors = VectorDecoder()
    body = batch("[[1,2]]", "[[3,4]]")
    items = read_batch(body, vectors).items
    assert [item.answer.buffer.tolist() for item in items] == [[], []]
    assert len(list(vectors.steps())) == 2
    assert [item.answer.tolist() for item in items] == [[[1, 2]], [[3, 4]]]


async def test_a_wrong_item_of_a_batch_fails_alone(fake: FakeWorkersAI) -> None:
    vectors = VectorDecoder()
    read_batch(batch("[[1,2]]", "[[true]]"), vectors)
    with pytest.raises(UnusualVectors):
        list(vectors.steps())
    one, other = read_batch(batch("[[1,2]]", "[[true]]")).items
    assert one.answer.tolist() == [[1, 2]]
    assert isinstance(other.error, DecodeError)


async def test_other_tasks_have_their_turn(fake: FakeWorkersAI) -> None:
    """While a large response is decoded, the event loop runs many times."""
    row = f"[{','.join(['0.5'] * 1024)}]"
    fake.always.says(f'{{"result":{{"data":[{",".join([row] * 500)}]}}}}')
    turns = 0
    ended = asyncio.Event()

    async def count() -> None:
        nonlocal turns
        while not ended.is_set():
            turns += 1
            await asyncio.sleep(0)

    vectors = VectorDecoder()
    body = f'{{"result":{{"data":[{",".join([row] * 500)}]}}}}'
    read_answer(AnswerSpec(Embeddings), vectors.wrap(response(body)))
    assert sum(1 for _ in vectors.steps()) >= 60
    counting = asyncio.create_task(count())
    await fake.client().run("@cf/a/b", TextEmbeddings(["one"] * 500))
    ended.set()
    await counting
    assert turns >= 60
