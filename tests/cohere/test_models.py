"""The values of Cohere's fine-tuning API: their bounds and their secrets."""

import pytest

from cfai.cohere import (
    FinetunedModel,
    Hyperparameters,
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
