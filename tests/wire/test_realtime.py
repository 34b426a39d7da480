"""The protocol of realtime speech: handshakes and messages, by their documented bytes."""

import json
from typing import Any

import pytest
from attrs import evolve

from cfai._wire.realtime import (
    CLEAR,
    END_OF_AUDIO,
    END_OF_TEXT,
    FLUSH,
    build_handshake,
    read_message,
    speak_message,
)
from cfai.errors import (
    BadRequest,
    CapacityExceeded,
    InputError,
    PermissionDenied,
    ServerError,
    StatusError,
)
from cfai.meta import Meta
from cfai.settings import CLOUDFLARE, Credentials, Gateway, Options, Settings
from cfai.tasks.listening import (
    EagerEndOfTurn,
    Final,
    FluxListening,
    ListenParameters,
    NovaListening,
    Partial,
    SessionInfo,
    SpeechEvent,
    SpeechStarted,
    SpokenWord,
    TurnEnded,
    TurnResumed,
    TurnStarted,
    UtteranceEnd,
)
from cfai.tasks.speaking import (
    AuraSpeaking,
    Cleared,
    Flushed,
    SpeakParameters,
    SpeechWarning,
)
from cfai.tasks.task import rules

NOVA = "@cf/deepgram/nova-3"
FLUX = "@cf/deepgram/flux"
TOKEN = "the-api-token"  # noqa: S105  # of nobody
SETTINGS = Settings(account_id="acc", credentials=Credentials(api_token=TOKEN), base_url=CLOUDFLARE)
META = Meta(ray_id="8f1-AMS")


def handshake(
    settings: Settings = SETTINGS,
    model: str = NOVA,
    parameters: dict[str, Any] | None = None,
    options: Options | None = None,
) -> tuple[str, dict[str, str]]:
    """The address and the headers of a handshake."""
    built = build_handshake(settings, model, parameters or {}, options)
    return built.settings.base_url + built.request.path, dict(built.request.headers)


# Handshakes


def test_the_address_without_a_gateway_is_that_of_a_run() -> None:
    """Source: Cloudflare's OpenAPI document, "Open Websocket connection with …"."""
    url, headers = handshake(parameters={"encoding": "linear16", "sample_rate": 16000})
    assert url == (
        "https://api.cloudflare.com/client/v4/accounts/acc/ai/run/@cf/deepgram/nova-3"
        "?encoding=linear16&sample_rate=16000"
    )
    assert headers["Authorization"] == f"Bearer {TOKEN}"
    assert not any(name.startswith("cf-aig") for name in headers)


def test_the_address_of_the_gateway_is_the_documented_one() -> None:
    """Source: cloudflare-docs, ai-gateway/usage/websockets-api/realtime-api.mdx@0c50ffa."""
    parameters = {"encoding": "linear16", "sample_rate": 16000, "interim_results": True}
    url, headers = handshake(evolve(SETTINGS, gateway="my-gate"), parameters=parameters)
    assert url == (
        "https://gateway.ai.cloudflare.com/v1/acc/my-gate/workers-ai?model=@cf/deepgram/nova-3"
        "&encoding=linear16&sample_rate=16000&interim_results=true"
    )
    assert headers["cf-aig-authorization"] == TOKEN
    assert {name.lower() for name in headers} == {"user-agent", "cf-aig-authorization"}


def test_a_gateway_with_its_own_token_gets_both() -> None:
    gateway = Gateway("g", authorization="gate-token", metadata={"team": "a"}, collect_log=False)
    _, headers = handshake(evolve(SETTINGS, gateway=gateway))
    assert headers["cf-aig-authorization"] == "gate-token"
    assert headers["Authorization"] == f"Bearer {TOKEN}"
    assert headers["cf-aig-metadata"] == '{"team":"a"}'
    assert headers["cf-aig-collect-log"] == "false"


def test_the_users_header_wins() -> None:
    """Public projects disagree whether the token needs "Bearer": whoever needs it sets it."""
    options = Options(headers={"cf-aig-authorization": f"Bearer {TOKEN}"})
    settings = evolve(SETTINGS, gateway="g").for_call(options)
    _, headers = handshake(settings, options=options)
    assert headers["cf-aig-authorization"] == f"Bearer {TOKEN}"
    gateway = Gateway("g", authorization="gate-token")
    settings = evolve(SETTINGS, gateway=gateway).for_call(options)
    assert handshake(settings, options=options)[1]["cf-aig-authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize(
    ("base_url", "origin"),
    [
        (CLOUDFLARE, "https://gateway.ai.cloudflare.com"),
        ("http://127.0.0.1:8787/client/v4", "http://127.0.0.1:8787"),
        ("https://ai.example.com:8443/x", "https://ai.example.com:8443"),
        (
            "https://api.cloudflare.com.example.com/client/v4",
            "https://api.cloudflare.com.example.com",
        ),
    ],
)
def test_the_credentials_stay_at_the_origin_of_the_user(base_url: str, origin: str) -> None:
    settings = evolve(SETTINGS, base_url=base_url, gateway="g")
    assert handshake(settings)[0].startswith(f"{origin}/v1/acc/g/workers-ai?model=")


@pytest.mark.parametrize("gateway", ["a/b", "..", "a?b", "a%2fb", "a#b"])
def test_a_gateway_that_is_no_segment_of_a_path_is_refused(gateway: str) -> None:
    with pytest.raises(InputError, match=r"Gateway\.id"):
        handshake(evolve(SETTINGS, gateway=gateway))


def test_a_gateway_needs_a_token() -> None:
    key = Credentials(api_email="a@b.c", api_key="a-global-key")
    settings = evolve(SETTINGS, credentials=key, gateway="g")
    with pytest.raises(InputError, match="needs an API token, got an email and a key"):
        handshake(settings)
    gateway = Gateway("g", authorization="gate-token")
    _, headers = handshake(evolve(settings, gateway=gateway))
    assert (headers["X-Auth-Key"], headers["cf-aig-authorization"]) == (
        "a-global-key",
        "gate-token",
    )


@pytest.mark.parametrize(
    ("value", "query"),
    [
        (True, "x=true"),
        (False, "x=false"),
        (16000, "x=16000"),
        (16000.0, "x=16000"),
        (0.7, "x=0.7"),
        ("a b&c", "x=a+b%26c"),
        ("größe", "x=gr%C3%B6%C3%9Fe"),
        (["one", "two"], "x=one&x=two"),
        (("one",), "x=one"),
    ],
)
def test_every_parameter_is_text(value: Any, query: str) -> None:
    """The service refuses others (5030). Booleans and repetition: the contract's flux schema."""
    assert handshake(parameters={"x": value})[0].partition("?")[2] == query


@pytest.mark.parametrize("value", [{"a": 1}, None, b"x", [["a"]], "\ud800"])
def test_what_is_no_text_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match="x must be"):
        handshake(parameters={"x": value})


@pytest.mark.parametrize("model", ["", "a//b", "openai/whisper", "@cf/x y", "@cf/../x"])
def test_models_that_are_no_path_are_refused(model: str) -> None:
    with pytest.raises(InputError, match="model"):
        handshake(model=model)


def test_tags_are_refused() -> None:
    with pytest.raises(InputError, match=r"Options\.tags must not be set for a WebSocket"):
        handshake(options=Options(tags=["a"]))


# Parameters


def test_the_keyword_arguments_are_the_fields_of_the_tasks() -> None:
    listening = {*rules(NovaListening), *rules(FluxListening)}
    assert ListenParameters.__annotations__.keys() == listening
    assert SpeakParameters.__annotations__.keys() == rules(AuraSpeaking).keys()


@pytest.mark.parametrize("value", ["x", ["x", "y"]], ids=["one", "several"])
@pytest.mark.parametrize(
    ("task", "name"),
    [
        (NovaListening, "keyterm"),
        (NovaListening, "keywords"),
        (FluxListening, "keyterm"),
        (FluxListening, "tag"),
    ],
)
def test_terms_have_one_character_at_least(
    task: type[NovaListening | FluxListening], name: str, value: str | list[str]
) -> None:
    parameters: dict[str, Any] = {**PCM_16K, name: value}
    assert task(**parameters).payload()[name] == value
    with pytest.raises(InputError, match=f"{name} must have at least 1 character"):
        task(**parameters | {name: ["x", ""]})


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"sample_rate": 16000}, None),
        ({"encoding": "linear16"}, "sample_rate must be set with encoding linear16"),
        ({"encoding": "opus"}, None),
        ({"encoding": "mp3"}, "encoding must be one of linear16, flac"),
        ({"sample_rate": 0}, "sample_rate must be at least 1, got 0"),
        ({"sample_rate": 16000.5}, "sample_rate must be a whole number, got 16000.5"),
        ({"endpointing": False}, None),
        ({"endpointing": 0}, None),
        ({"endpointing": True}, "endpointing: must be a number of milliseconds, or False"),
        ({"endpointing": -1}, "endpointing: must be a number of milliseconds, or False"),
        ({"endpointing": 1.5}, "endpointing: must be a number of milliseconds, or False"),
        ({"keyterm": "Tübingen"}, None),
        ({"keyterm": [""]}, "keyterm must have at least 1 character"),
        ({"mode": "medical"}, None),
        ({"mode": "legal"}, "mode must be one of general, medical, finance"),
        ({"interim_results": "true"}, "interim_results must be true or false"),
    ],
)
def test_the_parameters_of_nova_are_checked(parameters: Any, message: str | None) -> None:
    if message is None:
        assert NovaListening(**parameters).payload() == parameters
        return
    with pytest.raises(InputError, match=message):
        NovaListening(**parameters)


@pytest.mark.parametrize(
    ("name", "low", "high"), [("eager_eot_threshold", 0.3, 0.9), ("eot_threshold", 0.5, 0.9)]
)
def test_the_thresholds_of_flux_have_the_documented_bounds(
    name: str, low: float, high: float
) -> None:
    """Source: the input schema of flux, "Valid Values 0.3 - 0.9" and "0.5 - 0.9"."""
    for value in (low, high):
        FluxListening(**PCM_16K, **dict[str, Any]({name: value}))
    for value in (low - 0.01, high + 0.01, float("nan")):
        with pytest.raises(InputError, match=f"{name} must be between {low} and {high}"):
            FluxListening(**PCM_16K, **dict[str, Any]({name: value}))


def test_flux_needs_its_encoding_and_its_rate() -> None:
    for parameters in ({}, {"encoding": "linear16"}, {"sample_rate": 16000}):
        with pytest.raises((InputError, TypeError)):
            FluxListening(**parameters)
    with pytest.raises(InputError, match="encoding must be one of linear16, got 'opus'"):
        FluxListening(encoding="opus", sample_rate=16000)


# Messages that are sent


def test_the_messages_are_the_documented_bytes() -> None:
    """Source: realtime-api.mdx@0c50ffa; `Clear`: developers.deepgram.com, "Clear"."""
    assert speak_message('Say "hé"') == '{"type":"Speak","text":"Say \\"hé\\""}'
    assert (FLUSH, CLEAR) == ('{"type":"Flush"}', '{"type":"Clear"}')
    assert (END_OF_TEXT, END_OF_AUDIO) == ('{"type":"Close"}', '{"type":"CloseStream"}')


# Messages that are received

RESULTS = (
    # developers.deepgram.com, "Live Audio", "Results"; the fields that Cloudflare's example reads.
    '{"type":"Results","channel_index":[0,1],"duration":1.5,"start":3.0,"is_final":true,'
    '"speech_final":true,"channel":{"alternatives":[{"transcript":"another big problem",'
    '"confidence":0.99,"words":[{"word":"another","start":3.1,"end":3.4,"confidence":0.98,'
    '"punctuated_word":"Another","speaker":1}]}]},"metadata":{"request_id":"x"}}'
)
PCM_16K: Any = {"encoding": "linear16", "sample_rate": 16000}
WORD = SpokenWord("another", 3.1, 3.4, confidence=0.98, punctuated="Another", speaker=1)
FACTS: Any = {"words": (WORD,), "start": 3.0, "end": 4.5, "confidence": 0.99, "channel": 0}
TURN = (
    '{"type":"TurnInfo","request_id":"r","sequence_id":7,"event":"EVENT","turn_index":2,'
    '"audio_window_start":0.5,"audio_window_end":2.25,"transcript":"Hello there",'
    '"words":[{"word":"Hello","confidence":0.9},{"word":"there","confidence":0.8}],'
    '"end_of_turn_confidence":0.42}'
)
FLUX_WORDS = (SpokenWord("Hello", confidence=0.9), SpokenWord("there", confidence=0.8))


def turn(event: str) -> str:
    return TURN.replace("EVENT", event)


def flux(kind: Any) -> Any:
    return kind(
        "Hello there", words=FLUX_WORDS, start=0.5, end=2.25, turn=2, end_of_turn_confidence=0.42
    )


MESSAGES: list[tuple[str, SpeechEvent]] = [
    ('{"type":"Connected","request_id":"r","sequence_id":0}', SessionInfo(request_id="r")),
    ('{"type":"Metadata","request_id":"r"}', SessionInfo(request_id="r")),
    (
        '{"type":"Metadata","request_id":"r","model_name":"aura","model_version":"2024"}',
        SessionInfo(request_id="r", model_name="aura", model_version="2024"),
    ),
    (RESULTS, Final("another big problem", **FACTS, speech_final=True)),
    (
        RESULTS.replace('"is_final":true', '"is_final":false'),
        Partial("another big problem", **FACTS),
    ),
    # The contract's form, with nothing else.
    (
        '{"type":"Results","channel":{"alternatives":[{"transcript":"hi"}]},"is_final":true}',
        Final("hi"),
    ),
    (
        '{"type":"Results","channel":{"alternatives":[{"transcript":""}]},"is_final":true}',
        Final(""),
    ),
    (
        '{"type":"SpeechStarted","channel":[0,1],"timestamp":9.5}',
        SpeechStarted(time=9.5, channel=0),
    ),
    ('{"type":"SpeechStarted"}', SpeechStarted()),
    (
        '{"type":"UtteranceEnd","channel":[0,2],"last_word_end":2.4}',
        UtteranceEnd(last_word_end=2.4, channel=0),
    ),
    ('{"type":"UtteranceEnd"}', UtteranceEnd()),
    (turn("Update"), flux(Partial)),
    (turn("StartOfTurn"), flux(TurnStarted)),
    (turn("EagerEndOfTurn"), flux(EagerEndOfTurn)),
    (turn("TurnResumed"), flux(TurnResumed)),
    (turn("EndOfTurn"), flux(TurnEnded)),
    # Cloudflare's schema of flux has no `type`.
    (turn("EndOfTurn").replace('"type":"TurnInfo",', ""), flux(TurnEnded)),
    ('{"event":"StartOfTurn","turn_index":0}', TurnStarted("", turn=0)),
    ('{"type":"Flushed","sequence_id":0}', Flushed(sequence_id=0)),
    ('{"type":"Flushed"}', Flushed()),
    ('{"type":"Cleared","sequence_id":3}', Cleared(sequence_id=3)),
    (
        '{"type":"Warning","description":"slow down","code":"W1"}',
        SpeechWarning(description="slow down", code="W1"),
    ),
    (
        '{"type":"Warning","warn_msg":"slow down","warn_code":"W1"}',
        SpeechWarning(description="slow down", code="W1"),
    ),
    ('{"type":"Warning"}', SpeechWarning()),
]


@pytest.mark.parametrize(("text", "event"), MESSAGES)
def test_documented_messages_are_read(text: str, event: SpeechEvent) -> None:
    read = read_message(text, META)
    assert read == event
    assert type(read) is type(event)
    assert read.raw == json.loads(text)


@pytest.mark.parametrize(
    "message",
    [
        '{"type":"Unheard"}',
        '{"event":"NewEvent","transcript":"x"}',
        "{}",
        "[1,2]",
        "null",
        '"text"',
        "not JSON {",
        "",
        b"\x00\x01",
        '{"type":3}',
        '{"type":["Results"]}',
        # The main field is missing or of another type.
        '{"type":"Results"}',
        '{"type":"Results","channel":{"alternatives":[]}}',
        '{"type":"Results","channel":{"alternatives":[{"transcript":null}]}}',
        '{"type":"Results","channel":[]}',
        '{"event":"EndOfTurn"}',
        '{"event":"Update","transcript":null}',
        "[" * 100_000,
    ],
)
def test_what_nobody_documented_is_kept_and_no_error(message: str | bytes) -> None:
    event = read_message(message, META)
    assert type(event) is SpeechEvent
    try:
        assert event.raw == json.loads(message)
    except (ValueError, RecursionError):
        assert event.raw == message


@pytest.mark.parametrize("value", ["null", '"x"', "true", "[]", "{}", '"1"', "9" * 400, "[true]"])
def test_a_spoilt_side_field_costs_only_that_field(value: str) -> None:
    """The text was paid for."""
    text = (
        f'{{"type":"Results","start":{value},"duration":{value},"channel_index":{value},'
        f'"is_final":true,"speech_final":{value},"channel":{{"alternatives":[{{"transcript":"hi",'
        f'"confidence":{value},"words":[{value},{{"word":{value}}},{{"word":"hi","start":{value},'
        f'"speaker":{value}}}]}}]}}}}'
    )
    event = read_message(text, META)
    assert isinstance(event, Final)
    assert event.text == "hi"
    assert event.words[-1].word == "hi"
    assert (event.start, event.end, event.confidence, event.channel) == (None, None, None, None)


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        # developers.deepgram.com, "Turn-based Audio (Flux)", "Error".
        (
            '{"type":"Error","sequence_id":3,"code":"INTERNAL_SERVER_ERROR","description":"oh"}',
            ServerError,
            "oh",
        ),
        (
            '{"type":"Error","description":"no","message":"bad data","variant":"x"}',
            ServerError,
            "bad data",
        ),
        ('{"type":"FatalError"}', StatusError, "without a reason"),
        # grok-tts, in the contract.
        ('{"type":"error","message":"no voice"}', ServerError, "no voice"),
        # The forms of an event of a stream.
        ('{"errors":[{"code":3040,"message":"busy"}]}', CapacityExceeded, "busy"),
        ('{"error":{"code":5035,"message":"paid"}}', PermissionDenied, "paid"),
        ('{"success":false,"errors":[{"code":8005,"message":"oh"}]}', StatusError, "oh"),
        ('{"internalCode":5030,"message":"not a string"}', BadRequest, "not a string"),
    ],
)
def test_errors_in_a_session_have_the_class_of_a_response(
    text: str, kind: type[StatusError], message: str
) -> None:
    with pytest.raises(kind, match=message) as caught:
        read_message(text, META)
    assert caught.value.meta == META
