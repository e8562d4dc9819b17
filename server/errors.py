"""Errors that the server answers with: a status, a stable code and one line that says what to do."""

__all__ = ["ApiError"]


class ApiError(Exception):
    """An answer that is not the one that was asked for.

    Args:
        status: HTTP status.
        code: Stable code, `TM-…`, that scripts may rely on.
        message: What, where, and what to do; one line for a person.
        error_type: Name of SQLMesh's exception class, where SQLMesh raised it.
    """

    def __init__(self, status: int, code: str, message: str, error_type: str | None = None):
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.error_type = error_type
