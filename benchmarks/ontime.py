"""Whether one long model holds up the others: `uv run python -m benchmarks.ontime [--minutes 5]`.

Ten models with a one-minute cron, one of which sleeps 60 s. At every tick the nine others are to be done within 3 s,
and the long one runs back to back, never twice at once.
"""

import argparse
import time
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from benchmarks.commands import compile_installed
from benchmarks.projects import cloud_config, write_config
from tcloud.api.client import Api
from tcloud.wire.runs import Evaluation
from tcloud.wire.statuses import Status
from tests.fixtures.stack import running_stack

QUICK = 9
ON_TIME_SECONDS = 3.0
MODEL = """
MODEL (
  name ontime.%s,
  kind FULL,
  cron '* * * * *',
  interval_unit 'five_minute',
  allow_partials TRUE,
  start '1 hour ago'
);

SELECT 1 AS id, CAST(pg_sleep(CASE WHEN @execution_ts > '%s' THEN %d ELSE 0 END) AS TEXT) AS slept
"""


def main() -> None:
    """Plans the project, lets its schedules work for a while, and prints what came of it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ontime", description=__doc__)
    parser.add_argument("--minutes", type=int, default=5, help="for how many ticks (default: 5)")
    parser.add_argument("--sleep", type=int, default=60, help="seconds that the long model takes (default: 60)")
    arguments = parser.parse_args()
    compile_installed()
    with TemporaryDirectory(prefix="tm") as folder:
        project = Path(folder) / "project"
        write_config(project, cloud_config())
        (project / "models").mkdir()
        for name in _names():
            # The plan itself does not sleep.
            seconds = arguments.sleep if name == "long" else 0
            planned = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(time.time() + 30))
            (project / "models" / f"{name}.sql").write_text(MODEL % (name, planned, seconds))
        with running_stack(Path(folder) / "stack") as stack:
            planned_now = stack.tcloud("sqlmesh", "-p", str(project), "plan", "prod", "--auto-apply", "--no-prompts")
            assert planned_now.returncode == 0, planned_now.stdout + planned_now.stderr
            begin = (time.time() // 60 + 2) * 60
            time.sleep(begin + arguments.minutes * 60 + 20 - time.time())
            with Api(stack.url, stack.client_environment["TCLOUD_CLIENT_SECRET"]) as api:
                catalog = next(gateway.default_catalog for gateway in api.gateways())
                histories = {
                    name: [e for e in api.model_history(f'"{catalog}"."ontime"."{name}"') if _began(e) >= begin]
                    for name in _names()
                }
    Console().print(_table(histories, begin, arguments.minutes))


def _names() -> list[str]:
    return ["long", *(f"quick_{number}" for number in range(QUICK))]


def _began(evaluation: Evaluation) -> float:
    return evaluation.start_at.timestamp() if evaluation.start_at and evaluation.status is not Status.SKIPPED else 0.0


def _table(histories: dict[str, list[Evaluation]], begin: float, minutes: int) -> Table:
    table = Table(title="ten models with a one-minute cron, one of which takes long")
    for heading in ("tick", "quick models done", "the last one after", "on time"):
        table.add_column(heading, justify="right")
    for minute in range(minutes):
        tick = begin + 60 * minute
        ends = [
            evaluation.end_at.timestamp() - tick
            for name, history in histories.items()
            if name != "long"
            for evaluation in history
            if evaluation.end_at and tick <= _began(evaluation) < tick + 60
        ]
        on_time = len(ends) == QUICK and max(ends) <= ON_TIME_SECONDS
        last = f"{max(ends):.1f} s" if ends else "-"
        table.add_row(
            datetime.fromtimestamp(tick).strftime("%H:%M"),  # noqa: DTZ006 - for a person
            f"{len(ends)} of {QUICK}",
            last,
            "yes" if on_time else "no",
        )
    table.caption = _of_the_long_one(histories["long"])
    return table


def _of_the_long_one(history: Sequence[Evaluation]) -> str:
    ran = sorted((_began(e), e.end_at.timestamp() if e.end_at else time.time()) for e in history)
    pauses = [later[0] - earlier[1] for earlier, later in pairwise(ran)]
    twice = sum(pause < 0 for pause in pauses)
    pause = f"at most {max(pauses):.1f} s between two" if pauses else "only one"
    return f"the long one: {len(ran)} evaluations, {pause}, {twice} at the same time as another"


if __name__ == "__main__":
    main()
