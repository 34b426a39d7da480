"""How long a test may take: `faulthandler_timeout` of pytest, unless it asks for more."""

import faulthandler
import os
import signal

import pytest


def extend_limit(config: pytest.Config, seconds: float) -> None:
    """Let the test that runs take *seconds*, for example to download the weights of a model."""
    seconds = max(seconds, float(config.getini("faulthandler_timeout")))
    with config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        stderr = os.dup(2)  # It stays open: it is used if the test hangs.
    faulthandler.dump_traceback_later(seconds, exit=True, file=stderr)
    warn_later(seconds)


def warn_later(seconds: float) -> None:
    """Send a signal shortly before the test has taken *seconds*; 0 for none."""
    if hasattr(signal, "setitimer"):  # Not on Windows.
        signal.setitimer(signal.ITIMER_REAL, 0.9 * seconds)
