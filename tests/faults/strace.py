"""What a process asks of the kernel, as strace saw it.

`run` starts a command under strace and returns its calls in order. A call has two moments, the line
on which it began and the line on which it ended, because another thread may do something between
them; strace stops a process at both, so whatever a program does knowing that a call has returned
stands on a later line than its end. Which file a descriptor means is asked of the kernel at each
call (`-y`), so dup, fork and threads need no bookkeeping here. Texts and data come as hexadecimal
(`-xx`) and whole, so nothing is left to guess: what is cut short is refused as `Untraceable`.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

# Everything that can change a file or make a change durable, and what we would not understand if a
# program used it on a database. A question mark: some machines do not have this call.
CALLS = (
    *(
        "write",
        "pwrite64",
        "writev",
        "pwritev",
        "pwritev2",
        "copy_file_range",
        "sendfile",
        "splice",
    ),
    *("ftruncate", "truncate", "fallocate", "mmap", "io_uring_setup"),
    *("fsync", "fdatasync", "sync_file_range", "syncfs", "msync"),
    *("open", "openat", "openat2", "creat", "link", "linkat"),
    *("unlink", "unlinkat", "rename", "renameat", "renameat2"),
)
TRACE = "trace=" + ",".join(f"?{name}" for name in CALLS)

LONGEST = 4 << 20  # bytes of one write
PATIENCE = 60.0  # seconds until a program is taken for hanging
NEVER = sys.maxsize  # the end of a call that did not return

_LINE = re.compile(r"(?P<thread>\d+) +(?P<text>.*)")
_RESUMED = re.compile(r"<\.\.\. (?P<name>\w+) resumed>(?P<rest>.*)")
_UNFINISHED = " <unfinished ...>"
_CALL = re.compile(r"(?P<name>\w+)\((?P<arguments>.*?)\)? += (?P<result>-?\w+|\?)(?P<rest>.*)")
_BROKEN_OFF = re.compile(r"(?P<name>\w+)\((?P<arguments>.*)")
_DESCRIPTOR = re.compile(r"(?:\d+|AT_FDCWD)<(?P<path>[^>]*)>(?P<deleted>\(deleted\))?$")
_TEXT = re.compile(r'"(?P<text>(?:\\x[0-9a-f]{2})*)"$')


class Untraceable(Exception):
    """The trace does not tell what happened to the file; nothing can be concluded from it."""


@dataclass(frozen=True)
class Call:
    """One system call, from line `begin` to line `end`; `result` is None if it never ended."""

    thread: int
    name: str
    arguments: tuple[str, ...]
    begin: int
    end: int = NEVER
    result: int | None = None
    injected: bool = False

    @property
    def failed(self) -> bool:
        """Whether it returned with an error."""
        return self.result is not None and self.result < 0

    def path(self, index: int = 0) -> str:
        """The file that the descriptor at `index` meant at that moment, empty if it is none."""
        match = _DESCRIPTOR.match(self.arguments[index])
        return _unescape(match["path"]).decode() if match else ""

    def deleted(self, index: int = 0) -> bool:
        """Whether that file had no name any more."""
        match = _DESCRIPTOR.match(self.arguments[index])
        return bool(match and match["deleted"])

    def data(self, index: int) -> bytes:
        """The bytes of the argument at `index`."""
        match = _TEXT.match(self.arguments[index])
        if not match:
            raise Untraceable(f"{self.name} has {self.arguments[index][:80]!r} for its data")
        return _unescape(match["text"])

    def target(self, index: int, folder: int | None = None) -> str:
        """The path that the argument at `index` names, seen from the descriptor at `folder`."""
        base = os.getcwd() if folder is None else self.path(folder)  # noqa: PTH109 - joined as text
        return os.path.normpath(os.path.join(base, self.data(index).decode()))  # noqa: PTH118

    @property
    def place(self) -> str:
        """The first of its paths."""
        return min(self.paths(), default="")

    def paths(self) -> set[str]:
        """Every path among the arguments, of a descriptor or by name."""
        found = {self.path(index) for index in range(len(self.arguments))}
        for argument in self.arguments:
            if (match := _TEXT.match(argument)) and match["text"].startswith(r"\x2f"):
                found.add(_unescape(match["text"]).decode(errors="replace"))
        return found - {""}


@dataclass(frozen=True)
class Run:
    """A finished program: its calls, its exit code (negative: killed by it) and its stderr."""

    calls: tuple[Call, ...]
    exit: int
    stderr: str


@cache
def why_absent() -> str | None:
    """Why strace cannot be used here, or None if it can."""
    if (strace := shutil.which("strace")) is None:
        return "no strace on PATH (on Debian and Ubuntu: apt-get install strace)"
    probe = subprocess.run(
        (strace, "-f", "-qq", "-o", os.devnull, sys.executable, "-c", ""),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if probe.returncode:
        return f"strace may not trace here: {probe.stderr.strip()}"
    return None


def run(command: Sequence[str], trace: Path, *, only: Sequence[Path] = (), inject: str = "") -> Run:
    """Run `command` to its end and keep what strace says in `trace`.

    Args:
        command: The program and its arguments.
        trace: Where strace writes.
        only: Trace, count and disturb no calls but those on these paths; absolute, and without
            symbolic links. Empty: all.
        inject: What strace shall do to the program, in its own words after `--inject=`.

    Returns:
        The calls, the exit code and what the program wrote to stderr.

    Raises:
        Untraceable: The program still ran after a minute, or the trace cannot be read.
    """
    options = ["-f", "-y", "-xx", f"-s{LONGEST}", "-e", TRACE, "-e", "signal=none"]
    # With a filter in the kernel only the traced calls cost time, but then strace leaves out the
    # signals that it was told to inject, and says nothing.
    options += ["-e", f"inject={inject}"] if inject else ["--seccomp-bpf"]
    options += [f"-P{path}" for path in only]
    process = subprocess.Popen(
        (shutil.which("strace") or "strace", *options, "-qq", f"-o{trace}", "--", *command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
    )
    try:
        _, stderr = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # strace alone would leave its program running
        process.communicate()
        raise Untraceable(f"{command} did not end within {PATIENCE:g} s") from None
    if stderr.startswith("strace: "):
        raise Untraceable(stderr)
    return Run(tuple(parse(trace.read_text())), process.returncode, stderr)


def parse(text: str) -> list[Call]:
    """Return the calls of a trace, in the order in which they began."""
    return sorted(_calls(text.splitlines()), key=lambda call: call.begin)


def _calls(lines: Sequence[str]) -> Iterator[Call]:
    """Yield each call when it has ended; a call cut off by the end of its process at the end."""
    begun: dict[int, tuple[int, str]] = {}
    for number, line in enumerate(lines):
        match = _LINE.fullmatch(line)
        if not match:
            raise Untraceable(f"line {number + 1}: {line[:200]!r}")
        thread, said = int(match["thread"]), match["text"]
        if said.startswith(("+++", "---")):
            continue
        if said.endswith(_UNFINISHED):
            begun[thread] = number, said.removesuffix(_UNFINISHED)
        elif resumed := _RESUMED.fullmatch(said):
            start, first = begun.pop(thread)
            yield replace(_call(thread, first + resumed["rest"], start), end=number)
        else:
            call = _call(thread, said, number)
            yield call if call.result is None else replace(call, end=number)
    for thread, (start, first) in begun.items():
        yield _call(thread, first, start)


def _call(thread: int, said: str, begin: int) -> Call:
    """Return the call that `said` describes, without its end."""
    match = _CALL.fullmatch(said) or _BROKEN_OFF.fullmatch(said)
    if not match:
        raise Untraceable(f"line {begin + 1}: {said[:200]!r}")
    arguments = tuple(match["arguments"].split(", "))
    known = match.groupdict()
    result = None if known.get("result") in (None, "?") else int(known["result"], 0)
    injected = known.get("rest", "").endswith("(INJECTED)")
    return Call(thread, match["name"], arguments, begin, result=result, injected=injected)


def _unescape(text: str) -> bytes:
    """Return what -xx made of bytes."""
    return bytes.fromhex(text.replace(r"\x", ""))
