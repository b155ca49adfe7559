"""Other data for a dead letter: from the command line, or from the user's editor."""

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from headwater import codec
from headwater.cli.failure import Failure, usage
from headwater.cli.output import pretty
from headwater.deadletters import DeadLetter


def edited(letter: DeadLetter, given: str | None) -> bytes | None:
    """The new data of a letter, checked; None if nothing was changed.

    Raises:
        Failure: it is no JSON, or the editor cannot be run.
    """
    text = given if given is not None else _from_editor(letter)
    if text is None:
        return None
    data = text.strip().encode()
    try:
        codec.decode_data(data)
    except ValueError as error:
        raise usage(
            f"the data is no JSON: {error}", "the letter is as it was; try again"
        ) from error
    return data


def _from_editor(letter: DeadLetter) -> str | None:
    command = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    before = pretty(letter.data) + "\n"
    with tempfile.TemporaryDirectory(prefix="headwater-") as folder:
        path = Path(folder) / f"letter-{letter.id}.json"
        path.write_text(before, encoding="utf-8")
        try:
            ended = subprocess.run([*shlex.split(command), str(path)], check=False)  # noqa: S603
        except OSError as error:
            raise Failure(f"{command} cannot be run: {error.strerror}", "set EDITOR") from error
        if ended.returncode:
            raise Failure(f"{command} ended with {ended.returncode}: nothing was changed")
        after = path.read_text(encoding="utf-8")
    return None if after == before else after
