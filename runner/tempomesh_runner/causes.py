"""Errors of units and stages over a wire, so that a terminal shows the text that SQLMesh would have shown."""

import typing as t

from sqlglot import exp, parse_one
from sqlmesh.utils import errors as sqlmesh_errors
from sqlmesh.utils.errors import AuditError, NodeAuditsErrors, PythonModelEvalError

__all__ = ["decode_cause", "encode_cause", "is_retryable", "message_of"]

_CONNECTION_ERRORS = frozenset({"OperationalError", "InterfaceError"})
"""Names that DBAPI (PEP 249) gives to errors of the connection, whatever the driver."""

_LOST = ("connect", "closed", "terminat", "reset", "recovery", "starting up", "shutting down")


class StateUnavailableError(Exception):
    """The project's state could not be reached."""


def encode_cause(error: BaseException) -> dict[str, t.Any]:
    """The JSON form of an error."""
    cause: dict[str, t.Any] = {"class": type(error).__name__, "message": str(error) and message_of(error)}
    if isinstance(error, NodeAuditsErrors):
        cause["audits"] = [
            {
                "name": audit.audit_name,
                "arguments": {k: v.sql(dialect=audit.adapter_dialect) for k, v in audit.audit_args.items()},
                "count": audit.count,
                "query": audit.sql(),
                "dialect": audit.adapter_dialect,
            }
            for audit in error.errors
        ]
    return cause


def message_of(error: BaseException) -> str:
    """What is told of an error; where memory has run out, with the limit, which a model knows nothing of."""
    if isinstance(error, SystemExit):
        return f"It called sys.exit({error.code!r})."
    text = str(error) or type(error).__name__
    limit = _memory_limit()
    if limit is None or not any(isinstance(seen, MemoryError) for seen in _chain(error)):
        return text
    return (
        f"{text.rstrip()}\nThe runner process has reached its limit of {limit / 1e6:,.0f} MB of memory "
        "(TCLOUD_EXECUTOR_RUNNER_MEMORY_LIMIT_BYTES of the executor)."
    )


def decode_cause(cause: dict[str, t.Any] | None, message: str | None) -> Exception:
    """An error that SQLMesh's console formats as it would have formatted the original one."""
    if cause is None:
        return sqlmesh_errors.SQLMeshError(message or "It failed for an unknown reason.")
    if audits := cause.get("audits"):
        return NodeAuditsErrors([_audit_error(audit) for audit in audits])
    if cause["class"] == PythonModelEvalError.__name__:
        return PythonModelEvalError(cause["message"])
    # The console prints the name of the class: a driver's own error keeps its name without the driver.
    known = getattr(sqlmesh_errors, cause["class"], None)
    base: type[Exception] = known if isinstance(known, type) and issubclass(known, Exception) else Exception
    error: Exception = type(cause["class"], (base,), {"__init__": Exception.__init__})(cause["message"])
    return error


def is_retryable(error: BaseException) -> bool:
    """Whether another attempt may succeed: the connection was lost, as opposed to the model being wrong."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, StateUnavailableError | ConnectionError):
            return True
        kinds = {kind.__name__ for kind in type(seen).__mro__}
        if kinds & _CONNECTION_ERRORS and any(word in str(seen).lower() for word in _LOST):
            return True
        seen = seen.__cause__
    return False


def _memory_limit() -> int | None:
    # Not on every system, and errors are decoded on users' machines as well.
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    return None if limit == resource.RLIM_INFINITY else limit


def _chain(error: BaseException) -> t.Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _audit_error(audit: dict[str, t.Any]) -> AuditError:
    dialect = audit["dialect"]
    return AuditError(
        audit_name=audit["name"],
        audit_args={name: parse_one(sql, dialect=dialect) for name, sql in audit["arguments"].items()},
        count=audit["count"],
        query=t.cast(exp.Query, parse_one(audit["query"], dialect=dialect)),
        adapter_dialect=dialect,
    )
