"""What ends a command early, and how that is said: one or two lines on stderr, and an exit code."""

import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from typer.core import TyperGroup

from headwater.errors import (
    HeadwaterError,
    InvalidName,
    InvalidOption,
    InvalidPolicy,
    UnknownTransport,
)

FAILED, USAGE, INTERRUPTED, READER_LEFT = 1, 2, 130, 141
TRACEBACK = "HEADWATER_TRACEBACK"


class Failure(Exception):
    """A command cannot do what it was asked for.

    Args:
        text: what failed.
        fix: what mends it; a line of its own.
        code: the exit code.
    """

    def __init__(self, text: str, fix: str = "", *, code: int = FAILED) -> None:
        super().__init__(text)
        self.text = text
        self.fix = fix
        self.code = code


def usage(text: str, fix: str = "") -> Failure:
    """The command was called wrongly."""
    return Failure(text, fix, code=USAGE)


class ReaderLeft(Exception):
    """Whoever reads stdout has gone."""


class Commands(TyperGroup):
    """A group of commands that says what failed in a line or two, never with a traceback.

    The environment variable HEADWATER_TRACEBACK=1 shows where an error came from after all.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run the command; the parser would make an exit code of its own of a broken pipe."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise ReaderLeft from error

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: FBT001, FBT002  the parser's own signature
        windows_expand_args: bool = True,  # noqa: FBT001, FBT002
        **extra: Any,
    ) -> Any:
        """Run a command, and end the program."""
        plain = (args, prog_name, complete_var, False, windows_expand_args)
        if not standalone_mode:
            return super().main(*plain, **extra)
        try:
            code = super().main(*plain, **extra)
            sys.stdout.flush()
        except (BrokenPipeError, ReaderLeft):
            # Python flushes stdout once more as it exits, and would complain about it then.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(READER_LEFT)
        except (KeyboardInterrupt, Exception) as error:
            if os.environ.get(TRACEBACK):
                raise
            _end(error)
        sys.exit(code if isinstance(code, int) else 0)


def _end(error: BaseException) -> NoReturn:
    text, fix, code = _meaning(error)
    if text:
        sys.stderr.write(f"headwater: {text}\n")
    if fix:
        sys.stderr.write(f"  fix: {fix}\n")
    sys.exit(code)


def _meaning(error: BaseException) -> tuple[str, str, int]:
    if isinstance(error, Failure):
        return error.text, error.fix, error.code
    if isinstance(error, InvalidOption | InvalidName | InvalidPolicy | UnknownTransport):
        return str(error), "", USAGE
    if isinstance(error, HeadwaterError):
        return str(error), "", FAILED
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        return "interrupted", "", INTERRUPTED
    if hasattr(error, "format_message"):
        return _of_parser(error)
    return (
        f"unexpected {type(error).__name__}: {error}",
        f"this is a defect of headwater; {TRACEBACK}=1 shows where it is",
        FAILED,
    )


def _of_parser(error: Any) -> tuple[str, str, int]:
    """The parser's own errors; one of them is the help of a group that was named alone."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return "", "", USAGE
    context = getattr(error, "ctx", None)
    path = "headwater" if context is None else context.command_path
    text = " ".join(str(error.format_message()).split())
    return text.rstrip("."), f"see '{path} --help'", USAGE
