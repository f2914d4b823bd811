"""What an attempt keeps on disk, known to its supervisor, the engine and the reader of logs alike.

All files of a run's attempts lie in one directory, since making a directory or a file costs as much as starting a small
job does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from pathlib import Path

__all__ = [
    "AttemptFiles",
    "attempt_files",
    "last_line",
    "last_lines",
    "read_status",
    "run_directory",
    "start_of_last",
    "status_file",
]

#: Bytes read at once.
_BLOCK = 64 * 1024


@dataclasses.dataclass(frozen=True)
class AttemptFiles:
    """The files of one attempt.

    Parameters
    ----------
    stem : str
        What the names of all of them begin with.
    """

    stem: str

    @property
    def log(self) -> Path:
        """What the job writes, by itself: it needs no engine for that."""
        return Path(f"{self.stem}.log")

    @property
    def times(self) -> Path:
        """How far the log had grown when: a size and a time on each line, noted by the engine."""
        return Path(f"{self.stem}.times")

    @property
    def ended(self) -> Path:
        """What the container runtime says of how the container ended."""
        return Path(f"{self.stem}.ended")

    @property
    def root(self) -> Path:
        """What a sandbox sees in the place of directories of this machine."""
        return Path(f"{self.stem}.root")

    @property
    def name(self) -> str:
        """What tells the attempt from the others of its run."""
        return self.stem.rpartition("/")[2]


def run_directory(directory: Path, run_id: str) -> Path:
    """Return where a run's attempts keep their files."""
    return directory / "runs" / run_id


def status_file(directory: Path, run_id: str) -> Path:
    """Return where the supervisors of a run's attempts write: ``NAME PID`` first, ``NAME PID CODE`` at the end.

    One file for all, which each only adds to: a file for each would cost as much as the rest of a small job.
    """
    return run_directory(directory, run_id) / "status"


def read_status(path: Path) -> dict[str, tuple[int, int | None]]:
    """Return the supervisor's pid and the exit code, None before its end, by the attempt's name.

    A line without its end was cut off by a full disk or a crash, and does not count.
    """
    found: dict[str, tuple[int, int | None]] = {}
    with contextlib.suppress(OSError):
        for line in path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]:
            name, *numbers = line.split(" ")
            with contextlib.suppress(ValueError, IndexError):
                found[name] = (int(numbers[0]), int(numbers[1]) if len(numbers) > 1 else None)
    return found


def attempt_files(directory: Path, run_id: str, job_id: str, number: int) -> AttemptFiles:
    """Return the files of an attempt."""
    name = job_id.removeprefix(f"{run_id}-").replace(":", ".")
    return AttemptFiles(f"{run_directory(directory, run_id)}/{name}.{number}")


def last_lines(path: Path) -> list[str]:
    """Return the last lines of a file that are not blank."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        lines = file.read().decode(errors="replace").splitlines()
        return [line.strip() for line in lines if line.strip()]
    return []


def last_line(path: Path) -> str:
    """Return the last line of a file that is not blank, or nothing."""
    return "".join(last_lines(path)[-1:])


def start_of_last(path: Path, count: int) -> int:
    """Return where the last so many lines of a file begin."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        end: int = file.seek(0, os.SEEK_END)
        position = end
        while position > 0:
            size = min(_BLOCK, position)
            position -= size
            file.seek(position)
            block = file.read(size)
            at = len(block)
            while (at := block.rfind(b"\n", 0, at)) >= 0:
                # One at the very end begins no line.
                count -= position + at < end - 1
                if count == 0:
                    return position + at + 1
    return 0
