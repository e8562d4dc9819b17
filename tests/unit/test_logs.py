"""One format for everybody's lines, with the ids that are bound, and without what is secret."""

import json
import logging
import subprocess
import sys

PROGRAM = """
import logging, structlog, warnings
from telemetry.logs import configure_logging, secrets_of
configure_logging(json=True, secrets=secrets_of({"SQLMESH__X__PASSWORD": "s3cret-word", "SQLMESH__X__HOST": "a-host"}))
log = structlog.get_logger("server.test")
with structlog.contextvars.bound_contextvars(project="acme.demo", plan_id="p1"):
    log.info("said", url="postgresql://u:s3cret-word@a-host/d")
    logging.getLogger("uvicorn.error").warning("a library %s", "s3cret-word")
    logging.getLogger("uvicorn.error").info("of no interest")
    try:
        raise ValueError("null value\\nDETAIL:  Failing row contains (1, a row).\\nand more")
    except ValueError:
        log.exception("failed")
warnings.warn("a warning")
"""


def test_json_lines() -> None:
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert result.stdout == ""
    said, library, failed, warned = [json.loads(line) for line in result.stderr.splitlines()]
    ids = {"project": "acme.demo", "plan_id": "p1"}
    assert said.items() >= {**ids, "event": "said", "url": "postgresql://u:***@a-host/d", "level": "info"}.items()
    assert said["logger"] == "server.test"
    assert library.items() >= {**ids, "event": "a library ***", "logger": "uvicorn.error"}.items()
    assert failed["level"] == logging.getLevelName(logging.ERROR).lower()
    assert "null value" in failed["exception"]
    assert "a row" not in failed["exception"]
    assert "a warning" in warned["event"]
