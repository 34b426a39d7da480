"""`python -m tests.mutants [--count 200] [--seed 1] [--part local]`: does a test notice a change?

Draws random changes of the code, with Cosmic Ray's operators, and runs each against the test files
that reach its line. Everything happens in a copy of the repository.
"""

import argparse
import multiprocessing
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from random import Random

from cosmic_ray.testing import run_tests
from cosmic_ray.work_item import TestOutcome

from tests.mutants.places import Mutation, draw_sample, part_of
from tests.mutants.reach import Reach
from tests.mutants.trials import SKIPPED, enter_copy, run_mutation


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
    parser.add_argument(
        "--processes", type=int, default=1, help="each with a copy of the repository (default: 1)"
    )
    arguments = parser.parse_args()
    repository = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        enter_copy(repository, folder)
        _check_that_tests_run()
        reach = None if arguments.by_name else _measure(arguments.reach, Path.cwd(), Path(folder))
        modules = [
            path
            for path in Path("cfai").rglob("*.py")
            if not arguments.part or part_of(path) in arguments.part
        ]
        sample = draw_sample(modules, arguments.count, Random(arguments.seed))
        run = partial(run_mutation, reach=reach, patience=arguments.patience, slow=arguments.slow)
        with ProcessPoolExecutor(
            arguments.processes,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=enter_copy,
            initargs=(repository, folder),
        ) as pool:
            _print_scores(sample, pool.map(run, sample))


def _check_that_tests_run() -> None:
    command = f"{sys.executable} -m pytest -q -p no:cacheprovider tests/test_layers.py"
    outcome, output = run_tests(command, 600)
    if outcome != TestOutcome.SURVIVED:
        raise SystemExit(f"the tests fail without a change of the code:\n{output}")


def _measure(kept: Path, root: Path, scratch: Path) -> Reach:
    reach = Reach.load(kept)
    tests = sorted(map(str, Path("tests").rglob("test_*.py")))
    try:
        reach.measure(root, [test for test in tests if not test.startswith(SKIPPED)], scratch)
    finally:
        reach.save(kept)
    return reach


def _print_scores(sample: Sequence[Mutation], results: Iterable[tuple[str, str]]) -> None:
    drawn: Counter[str] = Counter()
    survived: Counter[str] = Counter()
    try:
        for number, (mutation, (outcome, change)) in enumerate(
            zip(sample, results, strict=True), start=1
        ):
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


if __name__ == "__main__":
    main()
