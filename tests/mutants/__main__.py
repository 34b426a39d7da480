"""`python -m tests.mutants [--count 200] [--seed 1] [--part local]`: does a test notice a change?

Draws random changes of the code, with Cosmic Ray's operators, and runs each against the test files
that reach its line. Everything happens in a copy of the repository.
"""

import argparse
import difflib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Final

from cosmic_ray.testing import run_tests
from cosmic_ray.work_item import TestOutcome

from tests.mutants.places import Mutation, draw_sample, part_of
from tests.mutants.reach import Reach, environment, find_tests_by_name

_GROUP: Final = 8
"""Test files that run in one process. Most mutations are found by the first ones."""

_SKIPPED: Final = ("tests/bench/", "tests/browser/", "tests/fuzz/", "tests/mutants/")
"""They are not run against mutations: they measure, or take too long."""


def main() -> None:
    """Run a sample and print the score of each part."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="of mutations (default: 200)")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--part", action="append", help="only this part, such as local or cfai")
    parser.add_argument(
        "--by-name",
        action="store_true",
        help="choose the test files by the names of modules and folders, without measuring which"
        " reach the line: much quicker, but another test may notice what survives",
    )
    parser.add_argument(
        "--reach",
        type=Path,
        default=Path(tempfile.gettempdir()) / "cfai-reach.json",
        help="the file that keeps what was measured, for the next run",
    )
    parser.add_argument(
        "--patience", type=float, default=600, help="seconds for one mutation (default: 600)"
    )
    parser.add_argument(
        "--slow", type=float, default=1, help="how much more time than usual tests may need"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "copy"
        _copy_repository(root)
        os.chdir(root)
        os.environ.update(environment(root))
        _check_that_tests_run()
        reach = None if arguments.by_name else _measure(arguments.reach, root, Path(folder))
        modules = [
            path
            for path in Path("cfai").rglob("*.py")
            if not arguments.part or part_of(path) in arguments.part
        ]
        sample = draw_sample(modules, arguments.count, Random(arguments.seed))
        _run_sample(sample, reach, arguments.patience, arguments.slow)


def _check_that_tests_run() -> None:
    command = f"{sys.executable} -m pytest -q -p no:cacheprovider tests/test_layers.py"
    outcome, output = run_tests(command, 600)
    if outcome != TestOutcome.SURVIVED:
        raise SystemExit(f"the tests fail without a change of the code:\n{output}")


def _measure(kept: Path, root: Path, scratch: Path) -> Reach:
    reach = Reach.load(kept)
    tests = sorted(map(str, Path("tests").rglob("test_*.py")))
    try:
        reach.measure(root, [test for test in tests if not test.startswith(_SKIPPED)], scratch)
    finally:
        reach.save(kept)
    return reach


def _copy_repository(root: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"],  # noqa: S607  # git of the developer
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(name, root / name)


def _run_sample(
    sample: Sequence[Mutation], reach: Reach | None, patience: float, slow: float
) -> None:
    drawn: Counter[str] = Counter()
    survived: Counter[str] = Counter()
    try:
        for number, mutation in enumerate(sample, start=1):
            outcome, change = _run_mutation(mutation, reach, patience, slow)
            drawn[part_of(mutation.path)] += 1
            place = f"{mutation.path}:{mutation.line}"
            print(f"{number} {outcome}: {place} {mutation.operator}", flush=True)
            if outcome.startswith("survived"):
                survived[part_of(mutation.path)] += 1
                print(change, flush=True)
    except KeyboardInterrupt:
        print("interrupted: these are the scores so far")
    for part, count in sorted(drawn.items()):
        missed = survived[part]
        print(f"{part:14} {count - missed:4} of {count:4}  {1 - missed / count:.0%}")
    total, missed = drawn.total(), survived.total()
    print(f"{'all':14} {total - missed:4} of {total:4}  {1 - missed / max(total, 1):.0%}")
    print("A survivor may be equivalent to the code as it is: look at each of them.")


def _run_mutation(
    mutation: Mutation, reach: Reach | None, patience: float, slow: float
) -> tuple[str, str]:
    """Give what became of a mutation, and how it changes the code."""
    if reach is None:
        tests = find_tests_by_name(mutation.path)
        tests = [test for test in tests if not test.startswith(_SKIPPED)]
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
            return "killed (timeout)" if output == "timeout" else "killed"
    return "survived"


def _describe_change(source: str, mutated: str) -> str:
    lines = difflib.unified_diff(source.splitlines(), mutated.splitlines(), n=0, lineterm="")
    return "\n".join(f"    {line}" for line in list(lines)[3:])


if __name__ == "__main__":
    main()
