"""The models for vision, whose weights are downloaded once."""

import pytest

from cfai.local import weights


@pytest.fixture(scope="session", autouse=True)
def vision_weights() -> None:
    for model in weights.BY_TASK["vision"]:
        weights.ensure(model)
