"""Fine-tuned models of Cohere, what they are made of, and what became of their training.

The names are Cohere's own and some of them common, so they are handed on by `cfai.cohere`, not here
with the others. An enum names what is known; a field takes any text, since the service may add one.
"""

import math
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from attrs import Attribute, field, frozen

from cfai.errors import InputError


class BaseType(StrEnum):
    """What a model is for."""

    UNSPECIFIED = "BASE_TYPE_UNSPECIFIED"
    GENERATIVE = "BASE_TYPE_GENERATIVE"
    CLASSIFICATION = "BASE_TYPE_CLASSIFICATION"
    RERANK = "BASE_TYPE_RERANK"
    CHAT = "BASE_TYPE_CHAT"


class Strategy(StrEnum):
    """How a model was trained; deprecated by Cohere before the rest was."""

    UNSPECIFIED = "STRATEGY_UNSPECIFIED"
    VANILLA = "STRATEGY_VANILLA"
    TFEW = "STRATEGY_TFEW"


class Status(StrEnum):
    """How far a model has come."""

    UNSPECIFIED = "STATUS_UNSPECIFIED"
    FINETUNING = "STATUS_FINETUNING"
    DEPLOYING_API = "STATUS_DEPLOYING_API"
    READY = "STATUS_READY"
    FAILED = "STATUS_FAILED"
    DELETED = "STATUS_DELETED"
    TEMPORARILY_OFFLINE = "STATUS_TEMPORARILY_OFFLINE"
    PAUSED = "STATUS_PAUSED"
    QUEUED = "STATUS_QUEUED"


class LoraTargetModules(StrEnum):
    """Which parts of the base model an adapter changes."""

    UNSPECIFIED = "LORA_TARGET_MODULES_UNSPECIFIED"
    QV = "LORA_TARGET_MODULES_QV"
    QKVO = "LORA_TARGET_MODULES_QKVO"
    QKVO_FFN = "LORA_TARGET_MODULES_QKVO_FFN"


def _whole(instance: object, attribute: "Attribute[Any]", value: object) -> None:
    if value is not None and (type(value) is not int or abs(value) >= 2**31):
        name = f"{type(instance).__name__}.{attribute.name}"
        raise InputError(f"{name} must be a whole number of 32 bits, got {value!r:.60}")


def _finite(instance: object, attribute: "Attribute[Any]", value: object) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is not None and not (number and math.isfinite(value)):  # type: ignore[arg-type]  # checked: a number
        name = f"{type(instance).__name__}.{attribute.name}"
        raise InputError(f"{name} must be a finite number, got {value!r:.60}")


def _text(instance: object, attribute: "Attribute[Any]", value: object) -> None:
    # The value may be a key, so the message leaves it out.
    if value is not None and not isinstance(value, str):
        name = f"{type(instance).__name__}.{attribute.name}"
        raise InputError(f"{name} must be a text, got {type(value).__name__}")


@frozen
class BaseModel:
    """The model that a training begins with.

    Source: Cohere API, "Trains and deploys a fine-tuned model", `BaseModel`.
    """

    base_type: str = field(validator=_text)
    """One of `BaseType`, or a text that is newer than this package."""

    name: str | None = field(default=None, kw_only=True, validator=_text)
    version: str | None = field(default=None, kw_only=True, validator=_text)
    """The service's to say; it is not sent."""

    strategy: str | None = field(default=None, kw_only=True, validator=_text)
    """One of `Strategy`, or another text."""


@frozen(kw_only=True)
class Hyperparameters:
    """How to train. `None` leaves it to the service, and is what it said nothing of.

    Source: Cohere API, "Trains and deploys a fine-tuned model", `Hyperparameters`.
    """

    early_stopping_patience: int | None = field(default=None, validator=_whole)
    """So many evaluations without an improvement end the training."""

    early_stopping_threshold: float | None = field(default=None, validator=_finite)
    """How much the loss must fall to count as an improvement."""

    train_batch_size: int | None = field(default=None, validator=_whole)
    train_epochs: int | None = field(default=None, validator=_whole)
    learning_rate: float | None = field(default=None, validator=_finite)
    lora_alpha: int | None = field(default=None, validator=_whole)
    lora_rank: int | None = field(default=None, validator=_whole)
    lora_target_modules: str | None = field(default=None, validator=_text)
    """One of `LoraTargetModules`, or another text."""


@frozen
class WandbConfig:
    """Where Weights & Biases is to be told of the training.

    Source: Cohere API, "Trains and deploys a fine-tuned model", `WandbConfig`.
    """

    project: str = field(validator=_text)
    api_key: str = field(repr=False, validator=_text)
    """A secret: it is in no `repr`, no error and no `raw`."""

    entity: str | None = field(default=None, kw_only=True, validator=_text)
    """Whose project it is; left out, that of the key."""


@frozen
class Settings:
    """What a model is trained from, on and how.

    Source: Cohere API, "Trains and deploys a fine-tuned model", `Settings`.
    """

    base_model: BaseModel
    dataset_id: str = field(validator=_text)
    hyperparameters: Hyperparameters | None = field(default=None, kw_only=True)
    multi_label: bool = field(default=False, kw_only=True)
    """The service's to say, of a classification; it is not sent."""

    wandb: WandbConfig | None = field(default=None, kw_only=True)


@frozen
class FinetunedModel:
    """A fine-tuned model as the service lists it. Moments are aware.

    Source: Cohere API, "Lists fine-tuned models".
    """

    name: str
    settings: Settings
    id: str | None = field(default=None, kw_only=True)
    creator_id: str | None = field(default=None, kw_only=True)
    organization_id: str | None = field(default=None, kw_only=True)
    status: str = field(default=Status.UNSPECIFIED.value, kw_only=True)
    """One of `Status`, or a text that is newer than this package."""

    created_at: datetime | None = field(default=None, kw_only=True)
    updated_at: datetime | None = field(default=None, kw_only=True)
    completed_at: datetime | None = field(default=None, kw_only=True)
    last_used: datetime | None = field(default=None, kw_only=True)
    """Deprecated by Cohere before the rest was."""

    raw: Mapping[str, Any] | None = field(default=None, kw_only=True, repr=False, eq=False)
    """What the service said of it, without the key of Weights & Biases."""


@frozen(kw_only=True)
class Event:
    """A change of a model's status.

    Source: Cohere API, "Fetch history of statuses for a fine-tuned model".
    """

    user_id: str | None = None
    """Who brought it about; `None` where the service itself did."""

    status: str = Status.UNSPECIFIED.value
    """One of `Status`, or another text."""

    created_at: datetime | None = None
    raw: Mapping[str, Any] | None = field(default=None, repr=False, eq=False)


@frozen(kw_only=True)
class TrainingStepMetrics:
    """What was measured at one step of a training.

    Source: Cohere API, "Retrieve training metrics for fine-tuned models".
    """

    created_at: datetime | None = None
    step_number: int = 0
    """Counted from 0. The service leaves the 0 out."""

    metrics: Mapping[str, float] = field(factory=dict, hash=False)
    """By name, "accuracy" for one. A value may be no number (`nan`) or infinite."""

    raw: Mapping[str, Any] | None = field(default=None, repr=False, eq=False)
