"""The process that converts: files come in at its standard input, and an outcome for each goes out.

A library can hang, ask for all memory, or crash over a hostile file; this process ends then, and
with it nothing but the conversion of that file.
"""

import faulthandler
import sys
from typing import Any, BinaryIO

import orjson

from cfai.local.documents import formats
from cfai.local.documents.values import File, Wanted

_LONGEST = 32 << 20
"""Of a text, in bytes."""


def main(seconds: float, memory: int) -> None:
    """Convert every file that comes in."""
    asked, told = sys.stdin.buffer, sys.stdout.buffer
    # What a library prints is no outcome.
    sys.stdout = sys.stderr
    _bound(memory)
    while line := asked.readline():
        # Its watch needs no turn of the interpreter, so that nothing can keep it waiting.
        faulthandler.dump_traceback_later(seconds, exit=True)
        told.write(orjson.dumps(_outcome(orjson.loads(line), asked)) + b"\n")
        told.flush()
        faulthandler.cancel_dump_traceback_later()


def _outcome(head: dict[str, Any], asked: BinaryIO) -> dict[str, str]:
    """Give the text of a file, or why there is none."""
    data = asked.read(head["size"])
    file, wanted = File(head["name"], head["kind"], data), Wanted(**head["wanted"])
    try:
        known = formats.of(file.name, file.kind)
        if known is None:
            raise ValueError(f"{file.kind} is not converted")
        text = known.convert(file, wanted)
        if len(text.encode(errors="replace")) > _LONGEST:
            raise ValueError(f"its text is longer than {_LONGEST >> 20} MiB")
    except Exception as exc:  # a library may raise whatever it likes
        return {"error": f"{type(exc).__name__}: {exc}"[:500]}
    return {"text": text.encode(errors="replace").decode()}


def _bound(memory: int) -> None:
    """Let the process have no more memory than that, where this can be said."""
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
