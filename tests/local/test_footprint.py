"""The server starts at once, and one process is enough for all of its models."""

import asyncio
import os
import sys

import orjson
import pytest


@pytest.mark.skipif(sys.platform == "win32", reason="has no measure of the memory")
@pytest.mark.usefixtures("speech_weights", "vision_weights")
async def test_all_models_fit_into_one_process() -> None:
    """Measured 1.26 GB, and 0.63 GB for text."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.local.footprint",
        env=os.environ,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    figures = orjson.loads(output)
    print(figures)
    assert figures["start, seconds"] < 1
    assert figures["MB after all models for text"] < 900
    assert figures["MB after all models"] < 1300
