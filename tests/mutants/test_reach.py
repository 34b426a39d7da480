"""Which test files are run against a change of a line."""

from pathlib import Path

import pytest

from tests.mutants.reach import Reach, find_tests_by_name

TEXT = Path("cfai/_wire/text.py")


@pytest.mark.parametrize(
    ("module", "first", "among"),
    [
        ("cfai/_wire/text.py", "tests/wire/test_text.py", "tests/wire/test_answers.py"),
        ("cfai/errors.py", "tests/test_errors.py", "tests/session/test_retries.py"),
        ("cfai/web/starlette.py", "tests/web/test_asgi.py", "tests/web/test_frameworks.py"),
        (
            "cfai/local/backends/textrank.py",
            "tests/local/backends/test_textrank.py",
            "tests/local/test_requests.py",
        ),
    ],
)
def test_test_files_by_name(module: str, first: str, among: str) -> None:
    """Its own test file, those of its folder, and those that import it."""
    tests = find_tests_by_name(Path(module))
    if Path(first).stem == f"test_{Path(module).stem}":
        assert tests[0] == first
    assert {first, among} <= set(tests)
    assert len(tests) == len(set(tests))


def test_measured_test_files_are_ordered_and_kept(tmp_path: Path) -> None:
    """The module's own, those of its folder, then the quickest; only those that reach the line."""
    seconds = {
        "tests/test_docs.py": 50.0,
        "tests/test_errors.py": 1.0,
        "tests/wire/test_text.py": 9.0,
        "tests/wire/test_sse.py": 2.0,
    }
    reach = Reach(seconds, {"cfai/_wire/text.py": {7: sorted(seconds)}})
    reach.save(tmp_path / "reach.json")
    loaded = Reach.load(tmp_path / "reach.json")
    assert loaded == reach
    assert loaded.tests_of(TEXT, 7) == [
        "tests/wire/test_text.py",
        "tests/wire/test_sse.py",
        "tests/test_errors.py",
        "tests/test_docs.py",
    ]
    assert loaded.tests_of(TEXT, 8) == []
    assert loaded.timeout_of(["tests/test_errors.py"]) == 33
    assert Reach.load(tmp_path / "nothing.json") == Reach()
