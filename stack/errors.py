"""What can go wrong with the embedded stack, in one line for a person."""

from pathlib import Path

__all__ = ["ChildFailedError", "StackError"]


class StackError(Exception):
    """The stack cannot start or go on; the message says what, where, and what to do."""


class ChildFailedError(StackError):
    """A process of the stack ended, or did not become ready; `log` has its own words."""

    def __init__(self, message: str, log: Path) -> None:
        super().__init__(message)
        self.log = log

    def tail(self, lines: int = 20) -> list[str]:
        """The last lines of the process's log."""
        try:
            return self.log.read_text(errors="replace").splitlines()[-lines:]
        except OSError:
            return []
