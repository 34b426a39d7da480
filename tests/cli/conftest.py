"""Fixtures: the command with a fake service, and the weights of the local text model."""

import sys
from pathlib import Path

import pytest

from cfai.local import weights
from cfai.testing import FakeWorkersAI
from tests.limits import extend_limit

from .processes import Cfai

TOKEN = "nobody-may-see-this"  # noqa: S105  # and it opens nothing


@pytest.fixture
def cfai(fake: FakeWorkersAI) -> Cfai:
    """The command with an account at the fake service."""
    return Cfai(
        {
            "CLOUDFLARE_BASE_URL": fake.base_url,
            "CLOUDFLARE_ACCOUNT_ID": "account",
            "CLOUDFLARE_API_TOKEN": TOKEN,
        }
    )


@pytest.fixture
def stranger() -> Cfai:
    """The command without an account."""
    return Cfai({})


@pytest.fixture(scope="session")
def text_model(pytestconfig: pytest.Config) -> Path:
    """The weights of the local text model, downloaded if they are missing."""
    extend_limit(pytestconfig, 600)
    return weights.ensure(weights.SMOLLM2)[0]


@pytest.fixture(scope="session")
def speech_models(pytestconfig: pytest.Config) -> None:
    """The weights of the local models for speech, downloaded if they are missing."""
    extend_limit(pytestconfig, 600)
    for model in weights.BY_TASK["speech"]:
        weights.ensure(model)


needs_terminals = pytest.mark.skipif(sys.platform == "win32", reason="there are no pty here")
