"""`python -m tests.fuzz [--seconds 60] [--inputs N] [--seed WORD]`: a fuzz session.

`--again SEED:NUMBER` runs one input again and shows the traceback.
"""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.fuzz.session import Report, Session, draw, run_session, running_clients


def main() -> int:
    """Run a session, and give its exit code: 1 if an input broke a promise."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="the time of the session (default: 60)"
    )
    parser.add_argument("--inputs", type=int, help="the number of inputs, instead of the time")
    parser.add_argument("--seed", default=time.strftime("%Y-%m-%d"), help="default: today")
    parser.add_argument("--again", metavar="SEED:NUMBER", help="run one input again")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.again:
            return asyncio.run(_again(arguments.again, Path(folder)))
        if arguments.inputs is None:
            limit = {"seconds": arguments.seconds}
        else:
            limit = {"inputs": float(arguments.inputs)}
        report = asyncio.run(_run(Path(folder), arguments.seed, limit))
    _show(report)
    return 1 if report.failures else 0


async def _run(folder: Path, seed: str, limit: Mapping[str, Any]) -> Report:
    """Run the session. SIGTERM and SIGINT end it early, and its report is shown, too."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    return await run_session(
        folder, seed, **limit, on_progress=_show_progress, is_stopped=stopped.is_set
    )


def _show_progress(number: int, session: Session) -> None:
    if number % 10_000 == 0:
        print(
            f"{number} inputs, {len(session.failures)} kinds of failure",
            file=sys.stderr,
            flush=True,
        )


def _show(report: Report) -> None:
    for failure in report.failures:
        print(failure, end="\n\n")
    for name, count in report.outcomes.most_common():
        print(f"{count:9}  {name}")
    rate = report.inputs / max(report.seconds, 1e-9)
    print(f"{report.inputs} inputs in {report.seconds:.0f} s ({rate:.0f} per second)")
    print(f"slowest: {report.slowest[0]:.2f} s, {report.slowest[1]}")
    print(f"memory: {report.growth / 2**20:+.1f} MiB since the first 1,000 inputs")
    print(f"{len(report.failures)} kinds of failure")


async def _again(seed: str, folder: Path) -> int:
    call, replies = draw(seed)
    for reply in replies:
        print(reply)
    async with running_clients(folder) as (server, clients):
        server.set_replies(replies)
        print(f"{call.name}: {await call.run(clients)!r}")
    return 0


if __name__ == "__main__":
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]
    sys.exit(main())
