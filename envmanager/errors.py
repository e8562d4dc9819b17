"""How a task in a runner process can end badly."""

from typing import Any

__all__ = ["PythonUnavailableError", "RunnerCrashedError", "TaskFailedError", "ZygoteFailedError"]


class TaskFailedError(Exception):
    """The task raised; the process lives.

    Args:
        message: SQLMesh's message.
        error_type: Name of the exception's class.
        retryable: Whether another attempt may succeed.
        cause: The error as `tempomesh_runner.causes` encodes it.
    """

    def __init__(self, message: str, error_type: str, *, retryable: bool, cause: dict[str, Any]):
        super().__init__(message)
        self.error_type = error_type
        self.retryable = retryable
        self.cause = cause


class RunnerCrashedError(Exception):
    """The process ended in the middle of a task.

    Args:
        reason: How it ended.
        log_tail: The last of what it printed.
    """

    def __init__(self, reason: str, log_tail: str):
        super().__init__(f"{reason}\n{log_tail}".rstrip())
        self.reason = reason
        self.log_tail = log_tail


class ZygoteFailedError(Exception):
    """A Python environment's first process did not start."""


class PythonUnavailableError(Exception):
    """A Python environment could not be resolved or built.

    Args:
        message: What is wrong, for a person: uv's explanation.
        retryable: Whether it may succeed later: an index that does not answer, a full disk.
        packages: The packages that the message speaks of.
    """

    def __init__(self, message: str, *, retryable: bool, packages: frozenset[str] = frozenset()):
        super().__init__(message)
        self.retryable = retryable
        self.packages = packages
