"""Cohere's fine-tuning API: its client and its models."""

from cfai.cohere.client import Cohere
from cfai.cohere.models import (
    BaseModel,
    BaseType,
    Event,
    FinetunedModel,
    Hyperparameters,
    LoraTargetModules,
    Settings,
    Status,
    Strategy,
    TrainingStepMetrics,
    WandbConfig,
)

__all__ = [
    "BaseModel",
    "BaseType",
    "Cohere",
    "Event",
    "FinetunedModel",
    "Hyperparameters",
    "LoraTargetModules",
    "Settings",
    "Status",
    "Strategy",
    "TrainingStepMetrics",
    "WandbConfig",
]
