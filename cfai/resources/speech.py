"""Realtime speech: opens the sessions of `WorkersAI.listen` and `WorkersAI.speak`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from cfai._types.excerpts import format_value
from cfai._wire.realtime import build_handshake, gateway_origin, read_refusal
from cfai.errors import InputError
from cfai.profiles import profile
from cfai.resources.keywords import check_keywords
from cfai.settings import Options
from cfai.tasks.listening import FluxListening, NovaListening
from cfai.tasks.speaking import AuraSpeaking
from cfai.tasks.task import Task, rules

if TYPE_CHECKING:
    from cfai._session.sockets import Socket
    from cfai.resources.runs import Runs
    from cfai.streaming.listening import AudioSource, Listener
    from cfai.streaming.speaking import Speaker

_ASR: Final = "Automatic Speech Recognition"
_TTS: Final = "Text-to-Speech"


def listen(
    runs: Runs,
    model: str,
    parameters: Mapping[str, Any],
    extra: Mapping[str, Any] | None,
    audio: AudioSource | None,
    options: Options | None,
) -> Listener:
    """Return a session that listens. It sends the handshake when it is opened."""
    from cfai.streaming.listening import Listener, check_source

    _check_task(model, _ASR, "transcribe")
    task = _build_task(
        FluxListening if "flux" in model else NovaListening, "listen", model, parameters, extra
    )
    if audio is not None:
        check_source(audio)
    open_source, observation = _source(runs, model, task, options)
    return Listener(
        open_source, observation=observation, spending=runs.account.spending, audio=audio
    )


def speak(
    runs: Runs,
    model: str,
    parameters: Mapping[str, Any],
    extra: Mapping[str, Any] | None,
    options: Options | None,
) -> Speaker:
    """Return a session that speaks. It sends the handshake when it is opened."""
    from cfai.streaming.speaking import Speaker

    _check_task(model, _TTS, "speak")
    task = _build_task(AuraSpeaking, "speak", model, parameters, extra)
    open_source, observation = _source(runs, model, task, options)
    return Speaker(
        open_source,
        observation=observation,
        spending=runs.account.spending,
        task=cast("AuraSpeaking", task),
    )


def _check_task(model: str, kind: str, verb: str) -> None:
    if not isinstance(model, str):
        raise InputError(f"model must be a string, got {format_value(model)}")
    task = profile(model).task
    if task not in (None, kind):
        raise InputError(f"{model} does not {verb} (its task is {task})")


def _build_task(
    kind: type[Task[Any]],
    method: str,
    model: str,
    parameters: Mapping[str, Any],
    extra: Mapping[str, Any] | None,
) -> Task[Any]:
    """The parameters as a checked task."""
    fields = rules(kind)
    for name in parameters:
        if name in fields:
            continue
        others = [cls for cls in (NovaListening, FluxListening) if name in rules(cls)]
        if others and method == "listen":
            raise InputError(
                f"{name} must not be set for {model}, which does not have it: leave it out, or pass"
                " it in extra="
            )
        check_keywords(method, (name,))
    return kind(extra=extra, **parameters)


def _source(runs: Runs, model: str, task: Task[Any], options: Options | None) -> Any:
    """What opens the socket, and the observation of the session."""
    observation = runs.observe() if runs.observers else None
    settings = runs.account.settings.for_call(options)
    origin = None if settings.gateway is None else gateway_origin(settings)

    async def open_source() -> Socket:
        return await runs.open_observed(
            observation,
            model,
            task,
            options,
            lambda options: _connect(runs, model, task, options),
            origin=origin,
        )

    return open_source, observation


async def _connect(runs: Runs, model: str, task: Task[Any], options: Options | None) -> Socket:
    """Shake hands. A refused attempt is repeated, as that of a run; an open session never is."""
    from cfai.streaming.sockets import accept_socket

    settings = runs.account.settings.for_call(options)
    handshake = build_handshake(settings, model, task.payload(), options)
    session = runs.account.session
    return await session.call(
        handshake.request,
        handshake.settings,
        read_response=read_refusal,
        open_stream=accept_socket,
        throttle=session.connections.throttle_for_call(model),
    )
