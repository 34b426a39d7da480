"""Runs mutations against tests, in a copy of the repository for each process."""

import difflib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cosmic_ray.testing import run_tests
from cosmic_ray.work_item import TestOutcome

from tests.mutants.places import Mutation
from tests.mutants.reach import Reach, environment, find_tests_by_name

_GROUP: Final = 4
"""Test files that run in one process. Most mutations are found by the first ones."""

SKIPPED: Final = ("tests/bench/", "tests/browser/", "tests/fuzz/", "tests/mutants/")
"""They are not run against mutations: they measure, or take too long."""


def enter_copy(repository: Path, folder: str) -> None:
    """Copy the files of a repository, and run the tests there from now on."""
    root = Path(tempfile.mkdtemp(dir=folder))
    listed = subprocess.run(
        ["git", "ls-files", "-z"],  # noqa: S607  # git of the developer
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(repository / name, root / name)
    os.chdir(root)
    os.environ.update(environment(root))


def run_mutation(
    mutation: Mutation, reach: Reach | None, patience: float, slow: float
) -> tuple[str, str]:
    """Give what became of a mutation, and how it changes the code."""
    if reach is None:
        tests = find_tests_by_name(mutation.path)
        tests = [test for test in tests if not test.startswith(SKIPPED)]
    else:
        tests = reach.tests_of(mutation.path, mutation.line)
    source = mutation.path.read_text("utf-8")
    mutated = mutation.apply(source)
    mutation.path.write_text(mutated, "utf-8")
    try:
        outcome = _try_tests(tests, reach or Reach(), patience, slow)
    finally:
        mutation.path.write_text(source, "utf-8")
    return outcome, _describe_change(source, mutated)


def _try_tests(tests: Sequence[str], reach: Reach, patience: float, slow: float) -> str:
    """Run the test files, the likeliest first, until a test fails or the patience ends."""
    if not tests:
        return "survived (no test reaches it)"
    start = time.perf_counter()
    groups = [tests[:1], *(tests[at : at + _GROUP] for at in range(1, len(tests), _GROUP))]
    for group in groups:
        if time.perf_counter() - start > patience:
            return "survived (for want of patience)"
        pytest = f"{sys.executable} -m pytest -x -q -p no:cacheprovider {' '.join(group)}"
        hangs = f"-o faulthandler_timeout={60 * slow}"
        outcome, output = run_tests(f"{pytest} {hangs}", slow * reach.timeout_of(group))
        if outcome != TestOutcome.SURVIVED:
            return f"killed ({_find_reason(output)})"
    return "survived"


def _find_reason(output: str) -> str:
    """Give the first test that failed, or the last line that the tests wrote."""
    lines = output.strip().splitlines() or ["no output"]
    return next((line for line in lines if line.startswith(("FAILED ", "ERROR "))), lines[-1])


def _describe_change(source: str, mutated: str) -> str:
    lines = difflib.unified_diff(source.splitlines(), mutated.splitlines(), n=0, lineterm="")
    return "\n".join(f"    {line}" for line in list(lines)[3:])
