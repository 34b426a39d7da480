"""The bounds of every field of every task, and that they are enforced.

The table is copied by hand from the API page, "Execute AI model", and from the input schemas of the
models that it names; a rule that differs from it is wrong.
"""

import json
import math
from typing import Any

import pytest

import cfai
from cfai.errors import InputError
from cfai.settings import UNSET
from cfai.tasks import (
    AutomaticSpeechRecognition,
    Choice,
    DateField,
    DateTimeField,
    Decide,
    DurationField,
    EstimateField,
    Extract,
    ForecastField,
    ImageClassification,
    ImagePrompt,
    ImageTextToText,
    ImageToText,
    ListField,
    MultimodalEmbeddings,
    Noul,
    NumberField,
    ObjectDetection,
    Prompt,
    Rerank,
    Rule,
    Score,
    SpeechSynthesis,
    Summarization,
    Task,
    TextClassification,
    TextEmbeddings,
    TextField,
    TextGeneration,
    TextToImage,
    TextToSpeech,
    TimeField,
    Translation,
    rules,
)
from cfai.tasks.listening import FluxListening, NovaListening
from cfai.tasks.speaking import AuraSpeaking

TEXT: dict[str, Any] = {"kind": "text"}
NUMBER: dict[str, Any] = {"kind": "number"}
FLAG: dict[str, Any] = {"kind": "boolean"}
MEDIA: dict[str, Any] = {"kind": "media"}
LIST: dict[str, Any] = {"kind": "list"}
REQUIRED: dict[str, Any] = {"required": True}
REQUIRED_TEXT: dict[str, Any] = {"required": True, "min_length": 1}
JSON: dict[str, Any] = {"kind": "JSON"}
COUNT: dict[str, Any] = {"kind": "integer", "minimum": 1}
TERMS: dict[str, Any] = {"kind": "text or texts", "min_length": 1}

# The schema of Prompt and TextGeneration has bounds ...
SAMPLING = {
    "frequency_penalty": NUMBER | {"minimum": -2, "maximum": 2},
    "max_tokens": NUMBER,
    "presence_penalty": NUMBER | {"minimum": -2, "maximum": 2},
    "raw": FLAG,
    "repetition_penalty": NUMBER | {"minimum": 0, "maximum": 2},
    "response_format": {"kind": "object"},
    "seed": NUMBER | {"minimum": 1, "maximum": 9999999999},
    "stream": FLAG,
    "temperature": NUMBER | {"minimum": 0, "maximum": 5},
    "top_k": NUMBER | {"minimum": 1, "maximum": 50},
    "top_p": NUMBER | {"minimum": 0.001, "maximum": 1},
}

# ... that of the newer models' fields, `ChatCompletionsCommonOptions` of
# @cloudflare/workers-types, has none: `n` is limited by this package, and `thinking` is its own ...
COMMON = {
    "max_completion_tokens": NUMBER,
    "stop": {"kind": "text or texts"},
    "reasoning_effort": TEXT | {"nullable": True},
    "chat_template_kwargs": {"kind": "mapping"},
    "logprobs": FLAG,
    "top_logprobs": NUMBER,
    "n": {"kind": "integer", "minimum": 1, "maximum": 1},
    "stream_options": {"kind": "mapping"},
    "thinking": FLAG | {"translated": True},
}

# ... and that of the image models has none either.
UNBOUNDED = {
    "frequency_penalty": NUMBER,
    "max_tokens": NUMBER,
    "presence_penalty": NUMBER,
    "repetition_penalty": NUMBER,
    "seed": NUMBER,
    "temperature": NUMBER,
    "top_k": NUMBER,
    "top_p": NUMBER,
}

TABLE: dict[type[Task[Any]], dict[str, dict[str, Any]]] = {
    TextClassification: {"text": TEXT | REQUIRED_TEXT},
    TextToImage: {
        "prompt": TEXT | REQUIRED_TEXT,
        "guidance": NUMBER,
        "height": NUMBER | {"minimum": 256, "maximum": 2048},
        "image": MEDIA,
        "image_b64": TEXT,
        "mask": MEDIA,
        "negative_prompt": TEXT,
        "num_steps": NUMBER | {"maximum": 20},
        "seed": NUMBER,
        "strength": NUMBER | {"minimum": 0, "maximum": 1},
        "width": NUMBER | {"minimum": 256, "maximum": 2048},
    },
    TextToSpeech: {"prompt": TEXT | REQUIRED_TEXT, "lang": TEXT},
    TextEmbeddings: {
        # The lengths and the two options are those of the bge models' own schemas.
        "text": REQUIRED_TEXT | {"kind": "text or texts", "min_items": 1},
        "pooling": TEXT | {"choices": ("mean", "cls")},
        "truncate_inputs": FLAG,
    },
    AutomaticSpeechRecognition: {
        "audio": MEDIA | REQUIRED,
        "source_lang": TEXT,
        "target_lang": TEXT,
    },
    ImageClassification: {"image": MEDIA | REQUIRED},
    ObjectDetection: {"image": MEDIA | REQUIRED},
    Prompt: {"prompt": TEXT | REQUIRED_TEXT, "lora": TEXT, **SAMPLING, **COMMON},
    TextGeneration: {
        "messages": LIST | REQUIRED | {"min_items": 1},
        # Not in the schema: Cloudflare docs, Workers AI, "Using LoRA adapters".
        "lora": TEXT,
        "functions": LIST,
        "tools": LIST,
        # `ChatCompletionToolChoiceOption` of @cloudflare/workers-types
        "tool_choice": {"kind": "JSON"},
        "parallel_tool_calls": FLAG,
        **SAMPLING,
        **COMMON,
    },
    Translation: {
        "text": TEXT | REQUIRED_TEXT,
        "target_lang": TEXT | REQUIRED,
        "source_lang": TEXT,
    },
    Summarization: {"input_text": TEXT | REQUIRED_TEXT, "max_length": NUMBER},
    ImageToText: {"image": MEDIA | REQUIRED, "prompt": TEXT, "raw": FLAG, **UNBOUNDED},
    ImagePrompt: {
        "image": MEDIA | REQUIRED,
        "prompt": TEXT | REQUIRED_TEXT,
        "ignore_eos": FLAG,
        **UNBOUNDED,
    },
    ImageTextToText: {
        "image": MEDIA | REQUIRED,
        "messages": LIST | REQUIRED | {"min_items": 1},
        "ignore_eos": FLAG,
        **UNBOUNDED,
    },
    MultimodalEmbeddings: {"image": MEDIA, "text": {"kind": "texts"}},
    # @cf/baai/bge-reranker-base
    Rerank: {
        "query": TEXT | REQUIRED_TEXT,
        "contexts": LIST | REQUIRED,
        "top_k": {"kind": "integer", "minimum": 1},
    },
    # @cf/deepgram/aura-1
    SpeechSynthesis: {
        "text": TEXT | REQUIRED,
        "speaker": TEXT,
        "encoding": TEXT | {"choices": ("linear16", "flac", "mulaw", "alaw", "mp3", "opus", "aac")},
        "container": TEXT | {"choices": ("none", "wav", "ogg")},
        "sample_rate": NUMBER,
        "bit_rate": NUMBER,
    },
    # @cf/deepgram/nova-3; `sample_rate` as AI Gateway's "Realtime WebSockets API" sends it.
    NovaListening: {
        "encoding": TEXT
        | {"choices": ("linear16", "flac", "mulaw", "amr-nb", "amr-wb", "opus", "speex", "g729")},
        "sample_rate": COUNT,
        "channels": COUNT,
        "language": TEXT | {"min_length": 1},
        "mode": TEXT | {"choices": ("general", "medical", "finance")},
        "endpointing": {"kind": "JSON"},
        "utterance_end_ms": COUNT,
        **dict.fromkeys(
            (
                "multichannel", "detect_language", "interim_results", "vad_events", "punctuate",
                "smart_format", "numerals", "measurements", "dictation", "filler_words",
                "profanity_filter", "diarize", "mip_opt_out",
            ),
            FLAG,
        ),
        **dict.fromkeys(("keyterm", "keywords", "redact"), TERMS),
    },
    # @cf/deepgram/flux
    FluxListening: {
        "encoding": TEXT | REQUIRED | {"choices": ("linear16",)},
        "sample_rate": COUNT | REQUIRED,
        "eager_eot_threshold": NUMBER | {"minimum": 0.3, "maximum": 0.9},
        "eot_threshold": NUMBER | {"minimum": 0.5, "maximum": 0.9},
        "eot_timeout_ms": COUNT | {"minimum": 0},
        "keyterm": TERMS,
        "tag": TERMS,
        "mip_opt_out": FLAG,
    },
    # @cf/deepgram/aura-1 without the text, in a session
    AuraSpeaking: {
        "speaker": TEXT | {"min_length": 1},
        "encoding": TEXT | {"choices": ("linear16", "flac", "mulaw", "alaw", "mp3", "opus", "aac")},
        "container": TEXT | {"choices": ("none", "wav", "ogg")},
        "sample_rate": COUNT,
        "bit_rate": COUNT,
    },
}  # fmt: skip

# The model cards of @cf/cloudflare/clef and clef-omni, and clients of Clairic.
IMAGES = LIST | {"max_items": 4}
CRITERIA: dict[str, Any] = {"required": True, "min_items": 2}
FIELD = {"instructions": TEXT, "null_threshold": NUMBER | {"minimum": 0, "maximum": 1}}
DECIMALS = {"kind": "integer", "minimum": 0, "maximum": 6}
ESTIMATE = {
    **FIELD,
    "min": JSON | REQUIRED,
    "max": JSON | REQUIRED,
    "step": JSON,
    "scale": TEXT | {"choices": ("linear", "log")},
    "unit": TEXT,
}
STRUCTURED: dict[type[Any], dict[str, dict[str, Any]]] = {
    Decide: {
        "state": JSON | REQUIRED,
        "questions": {"kind": "mapping", "min_items": 1, "max_items": 64} | REQUIRED,
        "images": IMAGES,
        "audio": LIST | {"max_items": 4},
        "videos": LIST | {"max_items": 2},
    },
    Noul: {"instructions": JSON | REQUIRED, "criteria": {"kind": "mapping"}},
    Choice: {
        "instructions": JSON | REQUIRED,
        "criteria": CRITERIA | {"kind": "mapping", "max_items": 255},
    },
    Score: {
        "instructions": JSON | REQUIRED,
        "criteria": CRITERIA | {"kind": "list", "max_items": 10},
    },
    Extract: {
        "state": TEXT | REQUIRED,
        "fields": {"kind": "mapping", "min_items": 1, "max_items": 100} | REQUIRED,
        "images": IMAGES,
        "reference_date": JSON,
        "include_quantiles": FLAG,
    },
    TextField: FIELD,
    NumberField: {**FIELD, "unit": TEXT, "integer": FLAG, "decimals": DECIMALS},
    DateField: FIELD,
    TimeField: FIELD,
    DateTimeField: FIELD,
    DurationField: {
        **FIELD,
        "unit": TEXT
        | {"choices": ("seconds", "minutes", "hours", "days", "weeks", "months", "years")},
        "integer": FLAG,
    },
    ListField: {
        **FIELD,
        "items": TEXT | {"choices": ("text", "number", "date")},
        "unit": TEXT,
        "integer": FLAG,
        "decimals": DECIMALS,
    },
    EstimateField: ESTIMATE,
    ForecastField: {
        **ESTIMATE,
        "horizon": {"kind": "integer", "minimum": 1, "maximum": 64},
        "interval": TEXT
        | {"choices": ("step", "minute", "hour", "day", "week", "month", "quarter", "year")},
    },
}

FACTS = (
    "kind",
    "required",
    "minimum",
    "maximum",
    "min_length",
    "max_length",
    "min_items",
    "max_items",
    "choices",
    "nullable",
    "translated",
)

SAMPLES: dict[type[Task[Any]], dict[str, Any]] = {
    TextClassification: {"text": "fine"},
    TextToImage: {"prompt": "a cat"},
    TextToSpeech: {"prompt": "hello"},
    TextEmbeddings: {"text": "one"},
    AutomaticSpeechRecognition: {"audio": b"RIFF"},
    ImageClassification: {"image": b"\x89PNG"},
    ObjectDetection: {"image": b"\x89PNG"},
    Prompt: {"prompt": "why?"},
    TextGeneration: {"messages": [{"role": "user", "content": "why?"}]},
    Translation: {"text": "one", "target_lang": "es"},
    Summarization: {"input_text": "a long story"},
    ImageToText: {"image": b"\x89PNG"},
    ImagePrompt: {"image": b"\x89PNG", "prompt": "what?"},
    ImageTextToText: {"image": b"\x89PNG", "messages": [{"role": "user", "content": "what?"}]},
    MultimodalEmbeddings: {},
    Rerank: {"query": "why?", "documents": ["so"]},
    SpeechSynthesis: {"text": "hello"},
    NovaListening: {"sample_rate": 16_000},
    FluxListening: {"encoding": "linear16", "sample_rate": 16_000},
    AuraSpeaking: {},
}
"""The least that makes one of each."""

FIELDS = [(kind, rule) for kind in TABLE for rule in rules(kind).values()]


def ids(value: object) -> str:
    return value.name if isinstance(value, Rule) else getattr(value, "__name__", repr(value))


def build_task(kind: type[Task[Any]], rule: Rule, value: object) -> Task[Any]:
    """Build a task with the value in the field of the rule."""
    field = "documents" if rule.name == "contexts" else rule.name
    return kind(**{**SAMPLES[kind], field: value})


def assert_refused(kind: type[Task[Any]], rule: Rule, value: object, *words: str) -> None:
    """Assert that task and rule refuse the value, and name the field, the rule and the value."""
    with pytest.raises(InputError) as by_task:
        build_task(kind, rule, value)
    with pytest.raises(InputError) as by_rule:
        rule.check(value)
    assert str(by_task.value) == str(by_rule.value)
    for word in (rule.name, *words):
        assert word in str(by_task.value)


def test_the_tables_have_all_tasks() -> None:
    """The 15 of the API page, two of single models, three sessions, and two of one family."""
    assert len(TABLE) == 15 + 2 + 3
    public = [getattr(cfai, name) for name in cfai.__all__]
    tasks = {kind for kind in public if isinstance(kind, type) and issubclass(kind, Task)}
    assert tasks - {Task} <= {*TABLE, *STRUCTURED}


@pytest.mark.parametrize("kind", [*TABLE, *STRUCTURED], ids=ids)
def test_rules_match_the_documented_schema(kind: type[Any]) -> None:
    """Every documented field exists, with exactly the documented bounds, and no other."""
    actual = {
        name: {fact: getattr(rule, fact) for fact in FACTS} for name, rule in rules(kind).items()
    }
    nothing = dict.fromkeys(FACTS) | dict.fromkeys(("required", "nullable", "translated"), False)
    expected = {name: nothing | facts for name, facts in (TABLE | STRUCTURED)[kind].items()}

    assert actual == expected


def steps_beyond(rule: Rule) -> list[float]:
    step = 1 if rule.kind == "integer" else 0.0001
    low = [] if rule.minimum is None else [rule.minimum - step]
    high = [] if rule.maximum is None else [rule.maximum + step]
    return [*low, *high]


NUMBERS = [(kind, rule) for kind, rule in FIELDS if rule.kind in ("number", "integer")]


@pytest.mark.parametrize(("kind", "rule"), NUMBERS, ids=ids)
def test_numbers_are_accepted_at_their_bounds_and_refused_beyond(
    kind: type[Task[Any]], rule: Rule
) -> None:
    for edge in (rule.minimum, rule.maximum):
        if edge is not None:
            assert build_task(kind, rule, edge).payload()[rule.name] == edge
            rule.check(edge)
    for bound in steps_beyond(rule):
        assert_refused(kind, rule, bound, "must be", repr(bound))


@pytest.mark.parametrize(("kind", "rule"), NUMBERS, ids=ids)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_refused(kind: type[Task[Any]], rule: Rule, value: float) -> None:
    assert_refused(kind, rule, value, "must be", repr(value))


@pytest.mark.parametrize(("kind", "rule"), NUMBERS, ids=ids)
@pytest.mark.parametrize("value", [True, "1", [1], 1j])
def test_other_types_are_not_numbers(kind: type[Task[Any]], rule: Rule, value: object) -> None:
    assert_refused(kind, rule, value, "number", repr(value))


@pytest.mark.parametrize(("kind", "rule"), NUMBERS, ids=ids)
def test_numbers_without_bounds_accept_any_number(kind: type[Task[Any]], rule: Rule) -> None:
    """There are no undocumented bounds."""
    if rule.maximum is None:
        assert build_task(kind, rule, 10**12).payload()[rule.name] == 10**12
    if rule.minimum is None:
        assert build_task(kind, rule, -(10**12)).payload()[rule.name] == -(10**12)


def test_counts_must_be_whole_numbers() -> None:
    assert_refused(Rerank, rules(Rerank)["top_k"], 1.0, "whole number", "1.0")


def test_messages_describe_one_sided_bounds() -> None:
    with pytest.raises(InputError, match=r"^top_k must be at least 1, got 0$"):
        Rerank("q", ["a"], top_k=0)
    with pytest.raises(InputError, match=r"^num_steps must be at most 20, got 21$"):
        TextToImage("a cat", num_steps=21)
    with pytest.raises(InputError, match=r"^strength must be between 0 and 1, got 1.5$"):
        TextToImage("a cat", strength=1.5)
    with pytest.raises(InputError, match=r"^guidance must be a finite number, got nan$"):
        TextToImage("a cat", guidance=math.nan)


TEXTS = [(kind, rule) for kind, rule in FIELDS if rule.kind in ("text", "text or texts")]


@pytest.mark.parametrize(("kind", "rule"), TEXTS, ids=ids)
def test_texts_must_be_strings_of_the_documented_length(kind: type[Task[Any]], rule: Rule) -> None:
    assert_refused(kind, rule, 5, "string", "5")
    assert_refused(kind, rule, b"bytes", "string", "<5 bytes>")
    if rule.min_length:
        assert rule.min_length == 1
        assert_refused(kind, rule, "", "at least 1 character", "''")
    if not rule.choices:
        assert build_task(kind, rule, "x").payload()[rule.name] == "x"


@pytest.mark.parametrize(("kind", "rule"), [(k, r) for k, r in TEXTS if r.choices], ids=ids)
def test_choices_accept_only_the_documented_values(kind: type[Task[Any]], rule: Rule) -> None:
    assert rule.choices
    for value in rule.choices:
        assert build_task(kind, rule, value).payload()[rule.name] == value
    assert_refused(kind, rule, "other", f"one of {', '.join(rule.choices)}", "'other'")


@pytest.mark.parametrize(
    ("kind", "rule"), [(kind, rule) for kind, rule in FIELDS if rule.kind == "boolean"], ids=ids
)
def test_flags_must_be_booleans(kind: type[Task[Any]], rule: Rule) -> None:
    assert build_task(kind, rule, False).payload()[rule.name] is False
    for value in (0, 1, "true", math.nan):
        assert_refused(kind, rule, value, "true or false", repr(value))


@pytest.mark.parametrize(
    ("kind", "rule"), [(kind, rule) for kind, rule in FIELDS if rule.required], ids=ids
)
def test_required_fields_must_be_set(kind: type[Task[Any]], rule: Rule) -> None:
    field = "documents" if rule.name == "contexts" else rule.name
    with pytest.raises(InputError, match=rule.name):
        build_task(kind, rule, None)
    with pytest.raises(TypeError, match=field):
        kind(**{name: value for name, value in SAMPLES[kind].items() if name != field})


@pytest.mark.parametrize(
    ("kind", "rule"), [(kind, rule) for kind, rule in FIELDS if not rule.required], ids=ids
)
def test_optional_fields_are_keyword_only_and_not_sent_as_none(
    kind: type[Task[Any]], rule: Rule
) -> None:
    unset = UNSET if rule.nullable else None
    assert rule.name not in build_task(kind, rule, unset).payload()
    untyped: Any = kind
    with pytest.raises(TypeError, match="positional"):
        untyped(*SAMPLES[kind].values(), "one too many")


@pytest.mark.parametrize(
    ("kind", "rule"), [(kind, rule) for kind, rule in FIELDS if rule.kind == "media"], ids=ids
)
def test_media_sources_are_checked(kind: type[Task[Any]], rule: Rule) -> None:
    assert build_task(kind, rule, b"x").payload()[rule.name] == b"x"
    for value in (b"", "", [], [256], [-1], ["a"], 5, "https://example.com/a.png", "data:,x"):
        assert_refused(kind, rule, value)


@pytest.mark.parametrize(
    ("kind", "rule"), [(k, r) for k, r in FIELDS if r.kind in ("list", "texts")], ids=ids
)
def test_lists_must_be_lists(kind: type[Task[Any]], rule: Rule) -> None:
    for value in ("text", b"bytes", {"role": "user"}, 5):
        assert_refused(kind, rule, value, "list")
    if rule.min_items:
        assert_refused(kind, rule, [], "at least 1 item", "[]")


def test_lists_of_texts_must_not_contain_empty_texts() -> None:
    rule = rules(TextEmbeddings)["text"]
    many = ["one"] * 1000

    assert build_task(TextEmbeddings, rule, many).payload()["text"] == many
    for value in ([], ["one", ""], ["one", None], ["one", 2]):
        assert_refused(TextEmbeddings, rule, value)


@pytest.mark.parametrize("document", ["", None, 5, {}, {"text": ""}, {"text": None}, ["a"]])
def test_documents_are_texts_that_are_not_empty(document: Any) -> None:
    """The message names the one that is wrong."""
    with pytest.raises(InputError) as caught:
        Rerank("why?", ["so", document])
    assert str(caught.value).startswith(
        "contexts[1]: a document must be at least 1 character of text, got "
    )


def test_maximum_lengths() -> None:
    """No task uses these two bounds; schemas of models do."""
    rule = Rule(name="prompt", kind="text", max_length=3)
    rule.check("abc")
    with pytest.raises(InputError, match=r"^prompt must have at most 3 characters, got 'abcd'$"):
        rule.check("abcd")

    rule = Rule(name="text", kind="texts", max_items=2)
    rule.check(["a", "b"])
    with pytest.raises(InputError, match="at most 2 items, not 3"):
        rule.check(["a", "b", "c"])


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("x" * 58, "'" + "x" * 58 + "'"),
        ("x" * 59, "'" + "x" * 58 + "…"),
        (b"", "<0 bytes>"),
        (b"x", "<1 byte>"),
        (bytearray(2), "<2 bytes>"),
        pytest.param(memoryview(bytes(3)), "<3 bytes>", id="memoryview"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_messages_show_up_to_60_characters_of_a_value(value: Any, shown: str) -> None:
    """And of bytes, only how many there are."""
    with pytest.raises(InputError) as caught:
        TextToImage("a cat", guidance=value)
    assert str(caught.value) == f"guidance must be a number, got {shown}"


def test_messages_stay_short() -> None:
    with pytest.raises(InputError) as caught:
        TextToImage("a cat", guidance="x" * 1_000_000)  # type: ignore[arg-type]  # on purpose
    assert len(str(caught.value)) < 120


def test_numbers_keep_their_type() -> None:
    """An int stays an int, and a subclass of float becomes a float."""

    class Half(float):
        pass

    body = Prompt("hi", temperature=Half(0.5), max_tokens=10, top_p=1).payload()

    assert json.dumps(body) == '{"prompt": "hi", "max_tokens": 10, "temperature": 0.5, "top_p": 1}'
    assert type(body["temperature"]) is float


def test_lists_of_texts_must_not_contain_numbers() -> None:
    anything: Any = [math.nan]
    with pytest.raises(InputError, match="text must be a string, got nan"):
        MultimodalEmbeddings(text=anything)
