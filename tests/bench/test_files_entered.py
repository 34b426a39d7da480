"""A call enters few files, so that a reader can follow it."""

from .files_entered import COUNTS, count_all


async def test_a_call_enters_few_files() -> None:
    """Each kind of call keeps to its limit; the message lists the files."""
    for call, files in (await count_all()).items():
        assert 0 < len(files) <= COUNTS[call][1], (call, sorted(files))
