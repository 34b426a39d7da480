"""Fallback: the models of a list are asked one after the other, until one of them answers.

Which errors lead to the next model is decided by `_session.retries.should_fall_back`.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from cfai._session.retries import should_fall_back
from cfai._session.timeouts import Deadline
from cfai._types.excerpts import format_value
from cfai.errors import CfaiError, InputError
from cfai.settings import Retry, Settings

T = TypeVar("T")

ModelNames = str | Sequence[str]
"""The name of a model, or a list of names: if a model can't answer, the next one is asked."""


def read_models(model: object) -> tuple[str, ...]:
    """The names of the models to ask, in order. A name that is listed twice is asked once.

    Raises:
        InputError: It is not a name or a list of names.
    """
    if isinstance(model, str):
        return (model,)
    if not isinstance(model, Sequence) or isinstance(model, bytes):
        raise InputError(f"model must be a name or a list of names, got {format_value(model)}")
    for index, name in enumerate(model):
        if not isinstance(name, str):
            raise InputError(f"model[{index}] must be a string, got {format_value(name)}")
    if not model:
        raise InputError("model must list at least one name, got an empty list")
    return tuple(dict.fromkeys(model))


def move_to_front(model: ModelNames, answered: str | None) -> ModelNames:
    """The same models, first the one that answered before, if a list has it."""
    if isinstance(model, str) or answered is None or answered not in model:
        return model
    return answered, *(name for name in model if name != answered)


async def ask_in_turn(
    models: Sequence[str], settings: Settings, ask: Callable[[str, Deadline], Awaitable[T]]
) -> T:
    """Return what *ask* returns for the first of *models* that answers.

    Args:
        settings: The settings of the call.
        ask: Called with a model, and the deadline that all of them share.

    Raises:
        CfaiError: The error of the last model that was asked; `failed_models` has the earlier ones.
    """
    deadline = Deadline(total=settings.timeouts.total)
    failed: dict[str, CfaiError] = {}
    try:
        for model, following in zip(models, (*models[1:], None), strict=True):
            deadline.may_fall_back = following is not None
            try:
                return await ask(model, deadline)
            except CfaiError as exc:
                exc.add_failed_models(failed)
                may_fall_back = deadline.may_fall_back and should_fall_back(exc)
                if not may_fall_back or deadline.seconds_left == 0:
                    raise
                failed[model] = exc
                if settings.retries.on_retry is not None:
                    settings.retries.on_retry(Retry(deadline.attempts, exc, 0.0, model=following))
        raise AssertionError("the last model answers or raises")
    finally:
        failed.clear()  # The errors hold this frame.
