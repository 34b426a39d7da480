"""What a type checker must infer of the client. Read by mypy, never run."""

from array import array
from collections.abc import Mapping
from typing import Any, assert_type

from attrs import frozen
from numpy import float32, object_
from numpy.typing import NDArray

from cfai import (
    AnyTool,
    Audio,
    AudioChunk,
    AutomaticSpeechRecognition,
    Conversation,
    Decide,
    Decided,
    Decisions,
    Description,
    Detections,
    EmbeddedBatch,
    EmbeddingJob,
    Embeddings,
    EmbedFailure,
    Extract,
    Extracted,
    Extraction,
    Image,
    ImageClassification,
    ImagePart,
    ImagePrompt,
    ImageTextToText,
    ImageToText,
    Labels,
    Listener,
    Message,
    MultimodalEmbeddings,
    Noul,
    ObjectDetection,
    ObjectStream,
    Options,
    Prompt,
    PythonTool,
    Ranking,
    Rerank,
    Speaker,
    SpeechEvent,
    SpeechSynthesis,
    Summarization,
    Summary,
    Text,
    TextClassification,
    TextEmbeddings,
    TextField,
    TextGeneration,
    TextToImage,
    TextToSpeech,
    Token,
    TokenStream,
    Tool,
    ToolCall,
    ToolFailed,
    ToolOutcome,
    ToolReturned,
    Transcript,
    Translated,
    Translation,
    Usage,
    WorkersAI,
    objects,
    user,
)
from cfai.distributed import Embedder
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
    assert_type(await ai.run(m, Decide("x", {"q": Noul("?")})), Decisions)
    assert_type(await ai.decide(m, ["x"], into=Recipe), Decided[Recipe])
    assert_type(await ai.run(m, Extract("x", {"f": TextField()})), Extraction)
    assert_type(await ai.extract(m, "x", into=Recipe), Extracted[Recipe])


async def short_forms_generate_text(ai: WorkersAI, m: str, talk: Conversation) -> None:
    assert_type(await ai.run(m, "x"), Text)
    assert_type(await ai.run(m, [user("x")]), Text)
    assert_type(await ai.run(m, [{"role": "user", "content": "x"}]), Text)
    assert_type(await ai.run(m, talk), Text)
    assert_type(await ai.run(m, "x", stream=True), TokenStream)
    assert_type(ai.stream(m, "x"), TokenStream)
    assert_type(ai.stream(m, (user("x"),)), TokenStream)
    assert_type(await ai.parse(m, "x", into=Recipe), Recipe)
    assert_type(await ai.run_tools(m, "x", tools=[]), ToolOutcome)


async def objects_are_streamed(ai: WorkersAI, m: str) -> None:
    assert_type(ai.parse_stream(m, "x", into=Recipe), ObjectStream[Recipe])
    async with ai.parse_stream(m, [user("x")], into=Recipe) as recipes:
        async for partial in recipes:
            assert_type(partial, dict[str, Any] | list[Any] | Recipe)
    assert_type(recipes.value, Recipe | None)
    assert_type(await recipes.collect(), Recipe)
    assert_type(recipes.answer, Text)
    assert_type(await ai.parse_stream(m, "x", into=list[Recipe]).collect(), list[Recipe])


async def a_model_may_be_a_list(ai: WorkersAI, names: list[str], fixed: tuple[str, str]) -> None:
    assert_type(await ai.run(names, "x"), Text)
    assert_type(await ai.run(fixed, [user("x")]), Text)
    assert_type(await ai.run(names, Translation("x", "fr")), Translated)
    assert_type(await ai.run(names, "x", stream=True), TokenStream)
    assert_type(ai.stream(fixed, "x"), TokenStream)
    assert_type(await ai.parse(names, "x", into=Recipe), Recipe)
    assert_type(await ai.run_tools(names, "x", tools=[]), ToolOutcome)
    assert_type((await ai.run(names, "x")).meta.model, str | None)


def fields_of_a_chat(tool: Tool) -> str | None:
    task = TextGeneration([user("x")], tool_choice=tool, stop=["a"], thinking=False)
    Prompt("x", reasoning_effort=None, n=1, stop="a", stream_options={"include_usage": True})
    Prompt("x", n=2)  # type: ignore[arg-type]  # an answer has one text
    Prompt("x", tool_choice="auto")  # type: ignore[call-arg]  # only with messages
    assert_type(task.thinking, bool | None)
    return Text("", reasoning="x").hint


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


def columns(embedder: Embedder, numbers: NDArray[object_]) -> None:
    assert_type(embedder(["one", None]), list[array[float] | None])
    assert_type(embedder(("one", "two")), list[array[float] | None])
    assert_type(embedder(numbers), NDArray[float32])
    Embedder("@cf/baai/bge-m3", client={"limit": 5, "api_token": None}, workers=2, rate=None)


@frozen
class Recipe:
    title: str


async def objects_are_of_their_type(ai: WorkersAI, m: str, task: TextGeneration) -> None:
    assert_type(await ai.parse(m, task, into=Recipe), Recipe)
    assert_type(await ai.parse(m, Prompt("x"), into=list[int], repair=1), list[int])
    assert_type(await ai.parse(m, task, into=Recipe | None), Any)
    assert_type(objects.read(Text("x"), into=Recipe), Recipe)


async def tools_are_functions(ai: WorkersAI, m: str) -> None:
    def double(number: int) -> int:
        return 2 * number

    async def wait(text: str) -> None:
        del text

    talk = Conversation().user("x")
    tools: list[AnyTool] = [double, PythonTool(wait, name="w"), Tool("t", "T."), {"name": "u"}]
    outcome = await ai.run_tools(m, talk, tools=tools)
    assert_type(outcome, ToolOutcome)
    assert_type(outcome.messages, Conversation)
    async with ai.run_tools(m, TextGeneration(talk), tools=[double], stream=True) as running:
        async for event in running:
            match event:
                case Token():
                    assert_type(event.text, str)
                case ToolReturned(call=call) | ToolFailed(call=call):
                    assert_type(call, ToolCall)
    assert_type(running.usage, Usage | None)


async def a_conversation_is_a_sequence(talk: Conversation, said: Text) -> None:
    assert_type(talk.user("x").add(said, {"role": "user", "content": "x"}), Conversation)
    assert_type(talk[0], Message)
    assert_type(talk[1:], Conversation)
    assert_type(talk.messages, tuple[Message, ...])
    assert_type(talk[-1].tool_calls[0].name, str)
    assert_type(len(talk[-1].content), int)
    Message("user", ["x", ImagePart(b"x")], tool_calls=None)
    Message("assistant", "", tool_calls=[{"name": "f"}, ToolCall("f")])
    assert_type([message.role for message in talk], list[str])
    TextGeneration(talk)


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
    await ai.run(m, b"x")  # type: ignore[arg-type]  # no task, no mapping
    await ai.run(m, "x", timeout=1)  # type: ignore[call-overload]  # an option of the call
    ai.stream(m, "x", temperature=1)  # type: ignore[arg-type]  # a field of the task
    ai.run_tools(m, "x", tools=[], timeout=1)  # type: ignore[arg-type]  # an option of the call
    await ai.embed(m, "x", timeout=1)  # type: ignore[arg-type]  # an option of the call
    await ai.embed_many(m, ["x"])  # type: ignore[misc]  # it is iterated
    await ai.stream(m, "x")  # type: ignore[misc]  # it is iterated
    await ai.run(Prompt("x"), m)  # type: ignore[call-overload]  # the other way round
    await ai.embed(m, ["x"], pooling="max")  # type: ignore[arg-type]  # there is no such pooling
    Embedder(m, client={"session": None})  # type: ignore[typeddict-unknown-key]  # it stays here
    WorkersAI("token")  # type: ignore[call-arg]  # by name only
    await ai.parse(m, {"prompt": "x"}, into=Recipe)  # type: ignore[call-overload]  # no task
    ai.run_tools(m, Conversation())  # type: ignore[call-arg]  # no tools
    del wrong


async def realtime_speech(ai: WorkersAI) -> None:
    ears = ai.listen("@cf/deepgram/nova-3", encoding="linear16", sample_rate=16000, audio=[b""])
    assert_type(ears, Listener)
    async for event in ears:
        assert_type(event, SpeechEvent)
    assert_type(await ears.finish(), Transcript)
    ai.listen("@cf/deepgram/nova-3", sample_rate="16000")  # type: ignore[arg-type]
    ai.listen("@cf/deepgram/nova-3", nonsense=1)  # type: ignore[call-arg]
    voice = ai.speak("@cf/deepgram/aura-1", speaker="luna")
    assert_type(voice, Speaker)
    await voice.say(ai.stream("@cf/meta/x", "Hi"))
    async for chunk in voice:
        assert_type(chunk, AudioChunk)
