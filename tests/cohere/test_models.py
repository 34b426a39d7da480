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


def test_hyperparameters_are_checked() -> None:
    """Integers have 32 bits, and numbers are finite."""
    with pytest.raises(InputError, match=r"Hyperparameters\.learning_rate must be a finite"):
        Hyperparameters(learning_rate=float("nan"))
    with pytest.raises(InputError, match=r"Hyperparameters\.lora_rank must be a 32-bit integer"):
        Hyperparameters(lora_rank=2**31)


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
