"""The command `cfai` and `python -m cfai`: runs `cfai.cli`, if its extra is installed."""

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        sys.exit(_run())
    except KeyboardInterrupt:
        # Ctrl-C can come at any time, also during the imports.
        sys.exit(130)


def _run() -> int:
    try:
        from cfai.cli import run_app
    except ImportError as exc:
        if (exc.name or "").partition(".")[0] not in ("click", "rich"):
            raise
        from cfai.errors import MissingExtra

        print(f"error: {MissingExtra('cli', needed_for='the command line')}", file=sys.stderr)
        return 2
    return run_app()


if __name__ == "__main__":
    main()
