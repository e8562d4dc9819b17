"""`sqlmesh run` at a time of one's own choosing, which the command line has no option for: `run_at.py PROJECT TIME`."""

import sys

from sqlmesh.core.console import configure_console

from tcloud.scheduler import RemoteContext


def main() -> int:
    """Runs what is due in `prod` of a project at a given time; the exit code is that of `sqlmesh run`."""
    project, execution_time = sys.argv[1:]
    configure_console()
    context = RemoteContext(paths=project, load=False)
    return int(context.run("prod", execution_time=execution_time, end=execution_time).is_failure)


if __name__ == "__main__":
    sys.exit(main())
