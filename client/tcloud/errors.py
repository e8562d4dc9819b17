"""What can go wrong between a user and the server, each with the exit code that `tcloud` ends with."""

__all__ = [
    "ConflictError",
    "Detached",
    "InvalidError",
    "NotAllowedError",
    "NotFoundError",
    "NotReachableError",
    "ServerFailedError",
    "TcloudError",
    "WorkFailedError",
]


class TcloudError(Exception):
    """Root of all errors that are shown to a person as one line.

    Args:
        message: What, where, and what to do about it.
        code: The server's stable error code (`TM-…`), if the server said so.
        error_type: Name of SQLMesh's exception class, where one was raised on the server.
    """

    exit_code = 1

    def __init__(self, message: str, *, code: str | None = None, error_type: str | None = None):
        super().__init__(message)
        self.code = code
        self.error_type = error_type


class WorkFailedError(TcloudError):
    """The plan or run was done and failed."""


class ConflictError(TcloudError):
    """The server refused because of the state that something is in."""


class ServerFailedError(TcloudError):
    """The server could not do its part."""


class InvalidError(TcloudError):
    """Wrong usage: a setting, an option or a request that means nothing."""

    exit_code = 2


class NotFoundError(InvalidError):
    """What was asked for does not exist."""


class NotAllowedError(TcloudError):
    """Not signed in, or what is granted does not suffice."""

    exit_code = 3


class NotReachableError(TcloudError):
    """No answer from the server."""

    exit_code = 4


class Detached(KeyboardInterrupt):
    """The person stopped watching; the work goes on without them."""
