"""What can go wrong with the embedded stack, in one line for a person."""

from pathlib import Path

__all__ = ["ChildFailedError", "StackError"]

TAIL_LINES = 20
_ERROR = "Error: "


class StackError(Exception):
    """The stack cannot start or go on; the message says what, where, and what to do.

    Args:
        message: one line.
        exit_code: what the command ends with.
    """

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class ChildFailedError(StackError):
    """A process of the stack ended, or did not do its part.

    Args:
        message: one line.
        log: the process's log, whose last lines are kept in `tail`: the file may be gone when they are shown.
        since: where in the log the process's own words begin, in bytes.
    """

    def __init__(self, message: str, log: Path, since: int = 0, exit_code: int = 1) -> None:
        super().__init__(message, exit_code)
        self.tail = _last_lines(log, since)

    @classmethod
    def of(cls, name: str, how: str, log: Path, since: int, exit_code: int | None) -> "ChildFailedError":
        """The error of a process, in its own words where the last that it said is a line for a person."""
        said = next((line for line in reversed(_last_lines(log, since)) if line.startswith(_ERROR)), None)
        if said is None:
            return cls(f"{name} {how}; see {log}.", log, since)
        # A process that can say what is wrong also says by its exit code whose it is to mend.
        error = cls(f"{name}: {said.removeprefix(_ERROR)} (its log: {log})", log, since, exit_code or 1)
        error.tail = []
        return error


def _last_lines(log: Path, since: int) -> list[str]:
    try:
        return log.read_bytes()[since:].decode(errors="replace").splitlines()[-TAIL_LINES:]
    except OSError:
        return []
