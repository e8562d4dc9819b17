"""Logs of a process: JSON where a machine reads them, readable in a terminal; libraries' lines in the same format."""

import logging
import os
import re
import sys
from collections.abc import Collection, Iterable, Mapping

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

__all__ = ["configure_logging", "secrets_of"]

_OWN = ("activities", "envmanager", "server", "stack", "telemetry", "workers", "workflows")
"""Packages whose information is worth a line; of libraries only warnings are."""

_HIDDEN = "***"
_SHORTEST_SECRET = 6
"""A shorter one would be found in words that are none."""

_SECRET_NAME = re.compile(
    r"PASSWORD|SECRET|TOKEN|PRIVATE|PASSPHRASE|CREDENTIAL|KEYFILE|ACCESS_KEY|API_KEY", re.IGNORECASE
)
_WITH_SECRETS_INSIDE = ("SQLMESH__NOTIFICATION_TARGETS", "SQLMESH__USERS")
_SECRET_INSIDE = re.compile(r'"(?:password|token|url)"\s*:\s*"([^"]+)"')
_ROW_OF_DATABASE = re.compile(r"^\s*(DETAIL|CONTEXT):", re.I)


def configure_logging(*, json: bool | None, secrets: Iterable[str] = ()) -> None:
    """Sets up structlog and the standard library's logging for this process; to be called once, at its start.

    Args:
        json: Whether lines are JSON; None decides by whether a person can be looking at stderr.
        secrets: What never appears, whoever logs it: it is replaced in every line.
    """
    if json is None:
        json = not sys.stderr.isatty()
    hidden = sorted({s for s in secrets if len(s) >= _SHORTEST_SECRET}, key=len, reverse=True)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _without_rows,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
    renderer: Processor = (
        structlog.processors.JSONRenderer(default=str)
        if json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer, _hiding(hidden)],
        )
    )
    logging.captureWarnings(capture=True)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for name in _OWN:
        logging.getLogger(name).setLevel(logging.INFO)


def secrets_of(variables: Mapping[str, str] | None = None) -> Collection[str]:
    """The values of environment variables that by their name are secrets; this process's variables by default."""
    variables = os.environ if variables is None else variables
    named = [value for name, value in variables.items() if _SECRET_NAME.search(name)]
    lists = [value for name, value in variables.items() if name.upper() in _WITH_SECRETS_INSIDE]
    return [*named, *lists, *(secret for value in lists for secret in _SECRET_INSIDE.findall(value))]


def _without_rows(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A database's error quotes the row that it is about; the first line of it says enough."""
    if isinstance(event.get("exception"), str):
        event["exception"] = "\n".join(
            line for line in event["exception"].splitlines() if not _ROW_OF_DATABASE.match(line)
        )
    return event


def _hiding(secrets: Collection[str]) -> Processor:
    def hide(_logger: WrappedLogger, _method: str, line: EventDict) -> str:
        text = str(line)
        for secret in secrets:
            text = text.replace(secret, _HIDDEN)
        return text

    return hide
