"""The `headwater` command: a room of its own, behind the extra `cli`.

This module needs the standard library alone, so that without typer and rich the command still runs
far enough to say which extra is missing.
"""

import sys

_EXTRA = ("typer", "rich")
_FIX = "pip install 'headwater[cli]'   (with uv: uv add 'headwater[cli]')"


def main() -> None:
    """Run the command line of this process.

    Raises:
        SystemExit: always; 0 when all went well, 1 when something failed, 2 when it was called
            wrongly or with a file that cannot be read, 130 when it was interrupted.
    """
    try:
        _run()
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _run() -> None:
    try:
        from headwater.cli.main import app
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA:
            raise
        sys.stderr.write(f"headwater: the command line needs {missing}: {_FIX}\n")
        raise SystemExit(2) from None
    app(prog_name="headwater")
