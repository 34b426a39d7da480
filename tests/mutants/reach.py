"""Which test files reach which line, as coverage measured it, and how long each of them takes."""

import ast
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from attrs import define, field

_SETTINGS: Final = """[run]
source = cfai
parallel = True
patch = subprocess
data_file = {file}
"""

_WORD: Final = re.compile(r"\w+")

_MOST_USERS: Final = 8
"""Test files that are chosen since they use names of a module."""

_SLOW: Final = ("test_docs.py", "test_examples.py")
"""Test files that come last, since they take long and belong to no module."""


@define
class Reach:
    """The test files of each line, and the seconds of each test file."""

    seconds: dict[str, float] = field(factory=dict)
    """By test file."""
    lines: dict[str, dict[int, list[str]]] = field(factory=dict)
    """The test files by module and line."""

    @classmethod
    def load(cls, path: Path) -> "Reach":
        """Read what `save` wrote; nothing if there is no file."""
        if not path.exists():
            return cls()
        document = json.loads(path.read_text("utf-8"))
        lines = {
            module: {int(line): tests for line, tests in lines.items()}
            for module, lines in document["lines"].items()
        }
        return cls(document["seconds"], lines)

    def save(self, path: Path) -> None:
        """Write it to a file, for the next run."""
        path.write_text(json.dumps({"seconds": self.seconds, "lines": self.lines}), "utf-8")

    def tests_of(self, module: Path, line: int) -> list[str]:
        """The test files that reach a line: the module's own first, then the quickest."""
        tests = self.lines.get(str(module), {}).get(line, [])
        near = find_tests_by_name(module)
        rank = {test: number for number, test in enumerate(near)}
        return sorted(tests, key=lambda test: (rank.get(test, len(near)), self.seconds[test]))

    def timeout_of(self, tests: Iterable[str]) -> float:
        """The seconds after which these test files hang."""
        return sum(30 + 3 * self.seconds.get(test, 30) for test in tests)

    def measure(self, root: Path, tests: Iterable[str], scratch: Path) -> None:
        """Run each of the test files under coverage, unless it is known."""
        settings = scratch / "coverage.ini"
        settings.write_text(_SETTINGS.format(file=scratch / "data"), "utf-8")
        for test in tests:
            if test in self.seconds:
                continue
            start = time.perf_counter()
            command = [sys.executable, "-m", "coverage", "run", f"--rcfile={settings}"]
            command += ["-m", "pytest", "-q", "-p", "no:cacheprovider", test]
            done = subprocess.run(
                command,
                cwd=root,
                env=environment(root),
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode not in (0, 5):
                raise SystemExit(f"{test} fails without a mutation:\n{done.stdout[-3000:]}")
            self.seconds[test] = time.perf_counter() - start
            print(f"{test}: {self.seconds[test]:.0f} s", flush=True)
            for module, line in _reached_lines(scratch, root):
                self.lines.setdefault(module, {}).setdefault(line, []).append(test)


def find_tests_by_name(module: Path) -> list[str]:
    """The test files that a module's tests are in by the rules: its own, then those of its folder.

    Then come those that import it, those that use most of the names it defines, and those of the
    modules that have no folder, such as the client.
    """
    folder = Path("tests", *(part.removeprefix("_") for part in module.parts[1:-1]))
    name = module.stem.removeprefix("_")
    own = folder / f"test_{name}.py"
    tests = [own] if own.exists() else []
    if len(module.parts) > 2:
        top = Path("tests", module.parts[1].removeprefix("_"))
        tests += [*sorted(folder.glob("test_*.py")), *sorted(top.rglob("test_*.py"))]
    imported = ".".join(module.with_suffix("").parts)
    words = (f"from {imported} import", f"import {imported}", f"import {name}")
    texts = {test: test.read_text("utf-8") for test in sorted(Path("tests").rglob("test_*.py"))}
    tests += [test for test, text in texts.items() if any(word in text for word in words)]
    names = _defined_names(module)
    uses = {test: len(names.intersection(_WORD.findall(text))) for test, text in texts.items()}
    most = sorted((test for test in uses if uses[test]), key=lambda test: -uses[test])
    others = sorted(Path("tests").glob("test_*.py"), key=lambda test: (test.name in _SLOW, test))
    tests += [*most[:_MOST_USERS], *others]
    return list(dict.fromkeys(map(str, tests)))


def _defined_names(module: Path) -> set[str]:
    """The public functions and classes of a module, and the methods of these."""
    nodes = ast.parse(module.read_text("utf-8")).body
    classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
    members = [*nodes, *(member for node in classes for member in node.body)]
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    names = {node.name for node in members if isinstance(node, kinds)}
    return {name for name in names if not name.startswith("_")}


def _reached_lines(scratch: Path, root: Path) -> Iterator[tuple[str, int]]:
    """The lines in the data files of one test file, which are removed."""
    from coverage import CoverageData

    seen: set[tuple[str, int]] = set()
    for path in scratch.glob("data*"):
        data = CoverageData(str(path))
        try:
            data.read()
            for name in data.measured_files():
                module = os.path.relpath(name, root)
                seen.update((module, line) for line in data.lines(name) or ())
        finally:
            data.close()
            path.unlink()
    return iter(sorted(seen))


def environment(root: Path) -> dict[str, str]:
    """The environment in which the tests import the package from *root*."""
    return {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
