"""The command `cfai`, and `python -m cfai`: hands over to `cfai.cli`, where that is installed."""

import sys


def main() -> None:
    """Run the command line, and end the process with its exit code."""
    try:
        from cfai.cli import run_app
    except ImportError as exc:
        if (exc.name or "").partition(".")[0] not in ("rich", "typer"):
            raise
        from cfai.errors import MissingExtra

        print(f"error: {MissingExtra('cli', needed_for='the command line')}", file=sys.stderr)
        sys.exit(2)
    sys.exit(run_app())


if __name__ == "__main__":
    main()
