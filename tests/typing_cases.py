"""What a type checker must infer of the client. Read by mypy, never run."""

from collections.abc import Mapping
from typing import Any, assert_type

from cfai import (
    Audio,
    AutomaticSpeechRecognition,
    Description,
    Detections,
    EmbeddedBatch,
    EmbeddingJob,
    Embeddings,
    EmbedFailure,
    Image,
    ImageClassification,
    ImagePrompt,
    ImageTextToText,
    ImageToText,
    Labels,
    MultimodalEmbeddings,
    ObjectDetection,
    Options,
    Prompt,
    Ranking,
    Rerank,
    SpeechSynthesis,
    Summarization,
    Summary,
    Text,
    TextClassification,
    TextEmbeddings,
    TextGeneration,
    TextToImage,
    TextToSpeech,
    Token,
    TokenStream,
    Transcript,
    Translated,
    Translation,
    WorkersAI,
    user,
)
from cfai.embedding import JobOptions
from cfai.tasks import Answer, Task


async def every_task_names_its_answer(ai: WorkersAI, m: str, media: bytes) -> None:
    labels: Labels = await ai.run(m, TextClassification("x"))
    assert_type(labels.best.score, float)
    assert_type(await ai.run(m, TextClassification("x")), Labels)
    assert_type(await ai.run(m, TextToImage("x")), Image)
    assert_type(await ai.run(m, TextToSpeech("x")), Audio)
    assert_type(await ai.run(m, SpeechSynthesis("x")), Audio)
    assert_type(await ai.run(m, TextEmbeddings("x")), Embeddings)
    assert_type(await ai.run(m, TextEmbeddings(["x", "y"])), Embeddings)
    assert_type(await ai.run(m, MultimodalEmbeddings(image=media)), Embeddings)
    assert_type(await ai.run(m, AutomaticSpeechRecognition(media)), Transcript)
    assert_type(await ai.run(m, ImageClassification(media)), Labels)
    assert_type(await ai.run(m, ObjectDetection(media)), Detections)
    assert_type(await ai.run(m, Prompt("x")), Text)
    assert_type(await ai.run(m, TextGeneration([user("x")])), Text)
    assert_type(await ai.run(m, TextGeneration([{"role": "user", "content": "x"}])), Text)
    assert_type(await ai.run(m, Translation("x", "fr")), Translated)
    assert_type(await ai.run(m, Summarization("x")), Summary)
    assert_type(await ai.run(m, ImageToText(media)), Description)
    assert_type(await ai.run(m, ImagePrompt(media, "x")), Description)
    assert_type(await ai.run(m, ImageTextToText(media, [user("x")])), Description)
    assert_type(await ai.run(m, Rerank("x", ["y"])), Ranking)


async def a_stream_is_a_stream(ai: WorkersAI, m: str, maybe: bool) -> None:
    streamed: TokenStream = await ai.run(m, Prompt("x"), stream=True)
    assert_type(await streamed.collect(), Text)
    assert_type(await ai.run(m, Prompt("x"), stream=False), Text)
    assert_type(await ai.run(m, Prompt("x"), stream=None), Text)
    assert_type(await ai.run(m, Prompt("x"), options=Options(tags=["a"])), Text)
    assert_type(ai.stream(m, TextGeneration([user("x")])), TokenStream)
    async with ai.stream(m, Prompt("x")) as tokens:
        assert_type(tokens, TokenStream)
        async for token in tokens:
            assert_type(token, Token)
            assert_type(token.text, str)
    async for text in ai.stream(m, {"prompt": "x"}).text():
        assert_type(text, str)
    async for frame in ai.stream(m, Prompt("x")).sse():
        assert_type(frame, bytes)
    assert_type(tokens.answer, Text)


async def what_is_not_known_is_any(ai: WorkersAI, m: str, asked: Mapping[str, Any]) -> None:
    assert_type(await ai.run(m, {"prompt": "x"}), Any)
    assert_type(await ai.run(m, asked), Any)


async def a_task_of_ones_own(ai: WorkersAI, m: str, task: Task[Text]) -> Answer:
    assert_type(await ai.run(m, task), Text)
    return await ai.run(m, task)


async def embeddings(ai: WorkersAI, m: str) -> None:
    vectors = await ai.embed(m, ["one", "two"], pooling="cls")
    assert_type(vectors, Embeddings)
    assert_type(vectors.shape, tuple[int, int])
    assert_type(vectors.tolist(), list[list[float]])


async def jobs(ai: WorkersAI, m: str, rows: list[tuple[int, str]], options: JobOptions) -> None:
    async with ai.embed_many(m, rows) as job:
        assert_type(job, EmbeddingJob[EmbeddedBatch])
        async for batch in job:
            assert_type(batch, EmbeddedBatch)
            print(batch.ids[0], batch.vectors.shape)
    async for batch in ai.embed_many(m, ["x"], on_error="skip", batch_size=3):
        assert_type(batch, EmbeddedBatch)
    async for item in ai.embed_many(m, ["x"], on_error="yield", rate=None):
        assert_type(item, EmbeddedBatch | EmbedFailure)
    either: EmbeddingJob[EmbeddedBatch | EmbedFailure] = ai.embed_many(m, ["x"])
    assert_type(ai.embed_many(m, ["x"], **options), EmbeddingJob[EmbeddedBatch | EmbedFailure])
    ai.embed_many(m, ["x"], batch_size="x")  # type: ignore[call-overload]  # a number
    ai.embed_many(m, ["x"], nonsense=1)  # type: ignore[call-overload]  # there is no such option
    del either


async def the_client_is_a_context(ai: WorkersAI) -> None:
    async with WorkersAI() as made:
        assert_type(made, WorkersAI)
        assert_type(made.with_options(gateway=None), WorkersAI)
    await ai.aclose()
    await ai.close()


async def mistakes_are_seen(ai: WorkersAI, m: str) -> None:
    wrong: Labels = await ai.run(m, Prompt("x"))  # type: ignore[arg-type]  # it is a Text
    await ai.run(m, "x")  # type: ignore[call-overload]  # no task, no mapping
    await ai.run(Prompt("x"), m)  # type: ignore[call-overload]  # the other way round
    await ai.embed(m, ["x"], pooling="max")  # type: ignore[arg-type]  # there is no such pooling
    WorkersAI("token")  # type: ignore[call-arg]  # by name only
    del wrong
