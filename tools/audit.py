"""Ask OSV, the open database of vulnerabilities, for known ones of every pinned package: `just audit`.

Exit codes: 0 none is known, 1 some are (pip-audit lists them, with the versions that mend them), 4 OSV cannot be
reached and nothing is known. It is no part of `.ci/run`, which needs nothing but a package index.
"""

import subprocess
import sys
import tempfile
from http.client import HTTPSConnection
from pathlib import Path

from pin import requirement_lines

__all__ = ["main"]

_HOST = "api.osv.dev"
_PATIENCE_SECONDS = 10
_NOT_REACHED = 4


def main() -> int:
    """Run pip-audit on the pins; returns the exit code."""
    connection = HTTPSConnection(_HOST, timeout=_PATIENCE_SECONDS)
    try:
        connection.connect()
    except OSError as error:
        print(f"Not audited: {_HOST} cannot be reached ({error}). Run it where it can.", file=sys.stderr)  # noqa: T201
        return _NOT_REACHED
    finally:
        connection.close()
    everything = ("--all-packages", "--all-extras", "--all-groups")
    pins = requirement_lines("export", "--frozen", *everything, "--no-emit-workspace", "--no-hashes")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "requirements.txt"
        file.write_text("\n".join(pins))
        audit = ["uv", "tool", "run", "pip-audit", "--vulnerability-service", "osv"]
        return subprocess.run(
            [*audit, "--disable-pip", "--no-deps", "--requirement", str(file)], check=False
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
