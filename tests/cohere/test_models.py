"""The values of Cohere's fine-tuning API: their bounds and their secrets."""

from collections.abc import Callable
from typing import Any

import pytest

from cfai.cohere import (
    BaseModel,
    FinetunedModel,
    Hyperparameters,
    Settings,
    WandbConfig,
)
from cfai.errors import (
    InputError,
)

from .data import TRACKED, WANDB_KEY


def test_the_wandb_key_is_in_no_repr() -> None:
    """Neither of the configuration nor of a model that has it."""
    assert WANDB_KEY not in repr(TRACKED) + str(FinetunedModel("a", TRACKED))
    assert "project='p'" in repr(TRACKED)


INTEGERS = (
    "early_stopping_patience", "train_batch_size", "train_epochs", "lora_alpha", "lora_rank"
)  # fmt: skip
NUMBERS = ("early_stopping_threshold", "learning_rate")


@pytest.mark.parametrize("name", INTEGERS)
def test_integers_have_32_bits(name: str) -> None:
    """Others, and what is no integer, are refused by name."""
    allowed: list[Any] = [None, 0, 1, -1, 2**31 - 1, -(2**31)]
    for value in allowed:
        assert getattr(Hyperparameters(**{name: value}), name) == value
    wrong: list[Any] = [2**31, -(2**31) - 1, 1.0, True, "1"]
    for value in wrong:
        with pytest.raises(InputError) as caught:
            Hyperparameters(**{name: value})
        message = f"Hyperparameters.{name} must be a 32-bit integer, got {value!r}"
        assert str(caught.value) == message


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_finite(name: str) -> None:
    """Integers are numbers, too."""
    allowed: list[Any] = [None, 0, 0.5, -1.5]
    for value in allowed:
        assert getattr(Hyperparameters(**{name: value}), name) == value
    wrong: list[Any] = [float("nan"), float("inf"), True, "1"]
    for value in wrong:
        with pytest.raises(InputError) as caught:
            Hyperparameters(**{name: value})
        message = f"Hyperparameters.{name} must be a finite number, got {value!r}"
        assert str(caught.value) == message


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("BaseModel.base_type", BaseModel),
        ("BaseModel.name", lambda value: BaseModel("BASE_TYPE_CHAT", name=value)),
        ("Settings.dataset_id", lambda value: Settings(BaseModel("BASE_TYPE_CHAT"), value)),
        ("WandbConfig.project", lambda value: WandbConfig(value, WANDB_KEY)),
        ("WandbConfig.api_key", lambda value: WandbConfig("p", value)),
        ("Hyperparameters.lora_target_modules", lambda v: Hyperparameters(lora_target_modules=v)),
    ],
)
def test_texts_are_checked(name: str, make: Callable[[Any], object]) -> None:
    """The message does not show the value, which may be a key."""
    with pytest.raises(InputError) as caught:
        make([WANDB_KEY])
    assert str(caught.value) == f"{name} must be a string, got list"
