"""The protocol of realtime speech: the handshake's request, and the messages of a session.

Sources: Cloudflare docs, ai-gateway/usage/websockets-api/realtime-api.mdx@0c50ffa (the gateway's
address, its authentication, the messages of aura-1); the input and output schemas of the models
(workers-types 5.20261117.1); developers.deepgram.com, "Live Audio", "Turn-based Audio (Flux)",
"Flush" and "Clear" (fields of the messages that Cloudflare does not list). The address without a
gateway is that of a run, with `GET`: Cloudflare's OpenAPI document, "Open Websocket connection with
@cf/deepgram/nova-3 model". Nobody tried it here against a live account.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from attrs import evolve

from cfai._types.excerpts import format_value
from cfai._types.json import dumps, loads
from cfai._validators import check_segment
from cfai._wire.errors import error_from_event, read_document
from cfai._wire.requests import (
    Request,
    account_path,
    build_headers,
    check_run_model,
    encode_query,
)
from cfai._wire.responses import Response
from cfai.errors import DecodeError, InputError
from cfai.meta import Meta
from cfai.settings import CLOUDFLARE, Gateway, Options, Settings
from cfai.tasks.listening import (
    EagerEndOfTurn,
    Final as FinalText,
    Partial,
    SessionInfo,
    SpeechEvent,
    SpeechStarted,
    SpeechText,
    SpokenWord,
    TurnEnded,
    TurnResumed,
    TurnStarted,
    UtteranceEnd,
)
from cfai.tasks.speaking import Cleared, Flushed, SpeechWarning

GATEWAY: Final = "https://gateway.ai.cloudflare.com"
"""The origin of AI Gateway, for clients whose `base_url` is Cloudflare's."""

END_OF_AUDIO: Final = '{"type":"CloseStream"}'
"""Ends a session that listens: what is left is transcribed. nova-3 refused `KeepAlive` and
`Finalize` (live notes of June 2026)."""

END_OF_TEXT: Final = '{"type":"Close"}'
FLUSH: Final = '{"type":"Flush"}'
CLEAR: Final = '{"type":"Clear"}'


def speak_message(text: str) -> str:
    """The message that has *text* spoken."""
    return dumps({"type": "Speak", "text": text}).decode()


# The handshake


class Handshake(NamedTuple):
    """The request that opens a WebSocket, and the settings with the address it goes to."""

    request: Request
    settings: Settings


def build_handshake(
    settings: Settings, model: str, parameters: Mapping[str, Any], options: Options | None
) -> Handshake:
    """`GET` with the upgrade to a WebSocket: through the gateway of the settings, or without one.

    Raises:
        InputError: The model or the gateway can't be part of an address, or a parameter can't be
            sent.
    """
    check_run_model(model)
    pairs = list(_encode_parameters(parameters))
    if options is not None and options.tags:
        raise InputError(
            "Options.tags must not be set for a WebSocket: use Gateway(metadata=…) to mark it in"
            " the gateway's logs"
        )
    gateway = settings.gateway
    if gateway is None:
        path = account_path(settings, f"run/{model}")
        headers: Mapping[str, str] = build_headers(settings, options, {})
    else:
        name = check_segment("Gateway.id", gateway.id)
        path = f"/v1/{settings.account_id}/{name}/workers-ai"
        pairs.insert(0, ("model", model))
        headers = _gateway_headers(settings, gateway, options)
        settings = evolve(settings, base_url=gateway_origin(settings))
    path = f"{path}?{encode_query(pairs, safe='@/')}" if pairs else path
    request = Request("GET", path, headers, model=model, costs=True, opens_socket=True)
    return Handshake(request, settings)


def gateway_origin(settings: Settings) -> str:
    """Where the gateway is: at Cloudflare, or with a `base_url` of the user's, at its origin.

    Credentials are never sent to another origin than the user chose.
    """
    if settings.base_url == CLOUDFLARE:
        return GATEWAY
    parts = urlsplit(settings.base_url)
    return f"{parts.scheme}://{parts.netloc}"


def _gateway_headers(
    settings: Settings, gateway: Gateway, options: Options | None
) -> dict[str, str]:
    """The headers of a handshake with the gateway.

    Its documentation authenticates with `cf-aig-authorization` alone, and without "Bearer".
    """
    headers = build_headers(settings, options, {})
    names = {name.lower(): name for name in headers}
    headers.pop(names["cf-aig-gateway-id"])  # It is in the path.
    token = settings.credentials.api_token
    if gateway.authorization is None and "cf-aig-authorization" not in names:
        if token is None:
            raise InputError(
                "a WebSocket through a gateway needs an API token, got an email and a key: pass"
                " api_token, or Gateway(authorization=…)"
            )
        headers["cf-aig-authorization"] = token
        if headers[names["authorization"]] == f"Bearer {token}":
            del headers[names["authorization"]]
    elif gateway.authorization is not None:
        name = names["cf-aig-authorization"]
        if headers[name] == f"Bearer {gateway.authorization}":
            headers[name] = gateway.authorization
    return headers


def _encode_parameters(parameters: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Each parameter as text: the service refuses other values (code 5030)."""
    for name, value in parameters.items():
        for item in value if isinstance(value, list | tuple) else (value,):
            match item:
                case bool():
                    yield name, "true" if item else "false"
                case str():
                    yield name, item
                case int():
                    yield name, str(item)
                case float():
                    yield name, str(int(item)) if item.is_integer() else repr(item)
                case _:
                    kinds = "text, a number, true or false, or a list of these"
                    raise InputError(f"{name} must be {kinds}, got {format_value(item)}")


def read_refusal(response: Response) -> Any:
    """Raise the error of a handshake that the service refused.

    Raises:
        StatusError: An error response.
        DecodeError: A response that is none.
    """
    with suppress(DecodeError):
        read_document(response)
    kind = response.meta.media_type or "no Content-Type"
    raise DecodeError(f"expected a WebSocket, got {response.status} ({kind})", meta=response.meta)


# Messages


def read_message(message: str | bytes, meta: Meta) -> SpeechEvent:
    """Read a message of a session that listens or speaks; not the audio of one that speaks.

    What nobody documented is a bare `SpeechEvent`, and so is a message without its main field: a
    session goes on, whatever a single message is.

    Raises:
        StatusError: The service reports an error.
    """
    if isinstance(message, bytes):
        return SpeechEvent(raw=message)
    try:
        document = loads(message, allow_nan=True)
    except ValueError:
        return SpeechEvent(raw=message)
    if not isinstance(document, dict):
        return SpeechEvent(raw=document)
    kind = document.get("type")
    is_error = kind in ("Error", "FatalError", "error")
    body = {"error": document} if is_error and not document.get("error") else document
    error = error_from_event(body, is_named_error=is_error, meta=meta)
    if error is not None:
        raise error
    return _read_event(kind, document)


def _read_event(kind: Any, document: dict[str, Any]) -> SpeechEvent:
    match kind, document.get("event"):
        case _, str() as name if name in _TURN_EVENTS:
            return _read_turn(_TURN_EVENTS[name], document)
        case "Results", _:
            return _read_results(document)
        case "Connected" | "Metadata", _:
            keys = ("request_id", "model_name", "model_version")
            return SessionInfo(**{key: _text(document, key) for key in keys}, raw=document)
        case "SpeechStarted", _:
            time, channel = _number(document, "timestamp"), _channel(document)
            return SpeechStarted(time=time, channel=channel, raw=document)
        case "UtteranceEnd", _:
            end, channel = _number(document, "last_word_end"), _channel(document)
            return UtteranceEnd(last_word_end=end, channel=channel, raw=document)
        case "Flushed", _:
            return Flushed(sequence_id=_integer(document, "sequence_id"), raw=document)
        case "Cleared", _:
            return Cleared(sequence_id=_integer(document, "sequence_id"), raw=document)
        case "Warning", _:
            description = _text(document, "description") or _text(document, "warn_msg") or ""
            code = _text(document, "code") or _text(document, "warn_code")
            return SpeechWarning(description=description, code=code, raw=document)
    return SpeechEvent(raw=document)


_TURN_EVENTS: Final[Mapping[str, type[SpeechText]]] = {
    "Update": Partial,
    "StartOfTurn": TurnStarted,
    "EagerEndOfTurn": EagerEndOfTurn,
    "TurnResumed": TurnResumed,
    "EndOfTurn": TurnEnded,
}


def _read_turn(kind: type[SpeechText], document: dict[str, Any]) -> SpeechEvent:
    text = document.get("transcript", "" if kind in (TurnStarted, TurnResumed) else None)
    if not isinstance(text, str):
        return SpeechEvent(raw=document)
    return kind(
        text,
        words=_words(document),
        start=_number(document, "audio_window_start"),
        end=_number(document, "audio_window_end"),
        turn=_integer(document, "turn_index"),
        end_of_turn_confidence=_number(document, "end_of_turn_confidence"),
        raw=document,
    )


def _read_results(document: dict[str, Any]) -> SpeechEvent:
    match document:
        case {"channel": {"alternatives": [{"transcript": str() as text} as best, *_]}}:
            pass
        case _:
            return SpeechEvent(raw=document)
    start, duration = _number(document, "start"), _number(document, "duration")
    end = None if start is None or duration is None else start + duration
    facts: dict[str, Any] = {
        "words": _words(best),
        "start": start,
        "end": end,
        "confidence": _number(best, "confidence"),
        "channel": _channel(document),
    }
    if document.get("is_final") is not True:
        return Partial(text, **facts, raw=document)
    speech_final = document.get("speech_final") is True
    return FinalText(text, **facts, speech_final=speech_final, raw=document)


# A side field of another type than documented is left out: the text was paid for.


def _words(document: dict[str, Any]) -> tuple[SpokenWord, ...]:
    rows = document.get("words")
    return tuple(
        SpokenWord(
            word,
            _number(row, "start"),
            _number(row, "end"),
            confidence=_number(row, "confidence"),
            punctuated=_text(row, "punctuated_word"),
            speaker=_integer(row, "speaker"),
        )
        for row in (rows if isinstance(rows, list) else ())
        if isinstance(row, dict) and (word := _text(row, "word")) is not None
    )


def _channel(document: dict[str, Any]) -> int | None:
    """The first number of `channel_index` or `channel`: [the channel, how many there are]."""
    for key in ("channel_index", "channel"):
        match document.get(key):
            case [int() as channel, *_] if type(channel) is int:
                return channel
    return None


def _text(document: dict[str, Any], key: str) -> str | None:
    value = document.get(key)
    return value if isinstance(value, str) else None


def _number(document: dict[str, Any], key: str) -> float | None:
    value = document.get(key)
    if type(value) is float:
        return value
    try:
        return float(value) if type(value) is int else None
    except OverflowError:  # It has more than 308 digits.
        return None


def _integer(document: dict[str, Any], key: str) -> int | None:
    value = document.get(key)
    return value if type(value) is int else None
