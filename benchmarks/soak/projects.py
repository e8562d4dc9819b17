"""The two projects of a soak: one whose runs are started by hand, one that ticks by itself meanwhile."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.projects import cloud_config, write_config
from tcloud.wire.runs import RunOptions
from tests.fixtures.records import Records
from tests.fixtures.stack import RunningStack

__all__ = ["STEPS", "TICKS", "Steps", "check_ticks", "plan_ticks"]

STEPS = "soak"
"""The environment whose runs are started by hand, and its schema."""

TICKS = "ticks"
"""The schema of what is scheduled, and due every five minutes; beside it are models that are due each minute."""

WIDTH = 12
FIRST = datetime(2025, 1, 1, 0, 10, tzinfo=UTC)
STEP = timedelta(minutes=5)
"""SQLMesh knows no smaller interval, and takes a cron of a minute only with partial ones."""

INCREMENTAL = "kind INCREMENTAL_BY_TIME_RANGE (time_column at), cron '*/5 * * * *'"
SLEEPER = f"""
MODEL (name soak.a%d, {INCREMENTAL}, start '2025-01-01');
SELECT
  @start_ts::TIMESTAMP AS at,
  CAST(pg_sleep(CASE WHEN @start_ts::TIMESTAMP >= '{FIRST:%Y-%m-%d %H:%M}' THEN %s ELSE 0 END) AS TEXT) AS soak_slept
"""
JOIN = f"""
MODEL (name soak.b%d, {INCREMENTAL}, start '2025-01-01');
SELECT l.at FROM soak.a%d AS l JOIN soak.a%d AS r USING (at) WHERE l.at BETWEEN @start_ts AND @end_ts
"""
SUM = "MODEL (name soak.c%d, kind FULL, cron '*/5 * * * *', start '2025-01-01'); SELECT COUNT(*) AS n FROM soak.b%d"
TICKING = f"MODEL (name {TICKS}.t%d, {INCREMENTAL}, start '1 day ago'); SELECT @start_ts::TIMESTAMP AS at"
EVERY_MINUTE = """
MODEL (
  name ticks_partial.p%d, kind FULL, cron '* * * * *', interval_unit 'five_minute', allow_partials TRUE,
  start '1 hour ago'
);
SELECT 1 AS id, CAST(pg_sleep(1) AS TEXT) AS slept
"""


@dataclass(frozen=True)
class Steps:
    """The project of runs by hand: each is of the next five minutes of a day long past."""

    stack: RunningStack
    folder: Path

    def plan(self) -> None:
        """Plans and applies it; everything is evaluated up to the first step then."""
        _write(self.folder, dict(self._models()))
        _plan(self.stack, self.folder, STEPS, "--include-unmodified", "--execution-time", f"{FIRST:%Y-%m-%d %H:%M:%S}")

    def start_run(self, step: int) -> str:
        """Starts the run of a step, counted from one."""
        moment = FIRST + step * STEP
        with self.stack.api() as api:
            options = RunOptions(environment=STEPS, execution_time=f"{moment:%Y-%m-%d %H:%M:%S}")
            return api.start_run(options).run_id

    def check(self, step: int) -> None:
        """All that is due up to a step is recorded once, and in its table once.

        Raises:
            AssertionError: If it is not.
        """
        records = Records(self.stack)
        recorded = {name: intervals for (name, _), intervals in records.intervals(STEPS).items()}
        due = (FIRST + step * STEP - FIRST.replace(hour=0, minute=0)) // timedelta(milliseconds=1)
        for name, _ in self._models():
            covered = sum(end - start for start, end in recorded[name])
            if name.startswith("c"):
                (row,) = records.ask("warehouse", f"SELECT n FROM {STEPS}__{STEPS}.{name}")
                assert row == (step + 1,), f"{name} has {row}, not {step + 1}"
                continue
            assert covered == due, f"{name}: {covered} ms are recorded, {due} are due"
            _check_table(records, f"{STEPS}__{STEPS}.{name}", recorded[name])

    def queries(self) -> int:
        """How many of its queries the warehouse is at."""
        query = (
            "SELECT COUNT(*) FROM pg_stat_activity "
            "WHERE state = 'active' AND query LIKE '%soak_slept%' AND pid <> pg_backend_pid()"
        )
        return int(Records(self.stack).ask("warehouse", query)[0][0])

    def _models(self) -> Iterator[tuple[str, str]]:
        for number in range(WIDTH):
            yield f"a{number}", SLEEPER % (number, 0.5 + number % 4)
            yield f"b{number}", JOIN % (number, number, (number + 1) % WIDTH)
            if number % 2:
                yield f"c{number}", SUM % (number, number)


def plan_ticks(stack: RunningStack, folder: Path) -> None:
    """Plans and applies the project that is scheduled."""
    models = {f"t{number}": TICKING % number for number in range(WIDTH)}
    models |= {f"p{number}": EVERY_MINUTE % number for number in range(3)}
    _write(folder, models)
    _plan(stack, folder, "prod")


def check_ticks(stack: RunningStack) -> None:
    """What was due until now is recorded once, and in its table once.

    Raises:
        AssertionError: If it is not, or not yet.
    """
    records = Records(stack)
    now = int(datetime.now(UTC).timestamp() * 1000)
    step = STEP // timedelta(milliseconds=1)
    recorded = records.intervals(TICKS)
    assert len(recorded) == WIDTH
    for (name, _), intervals in recorded.items():
        first, last = intervals[0][0], max(end for _, end in intervals)
        assert last == now // step * step, f"{name} is recorded until {datetime.fromtimestamp(last / 1000, UTC)} only"
        assert sum(end - start for start, end in intervals) == last - first, f"{name} has gaps: {intervals}"
        _check_table(records, f"{TICKS}.{name}", intervals)


def _check_table(records: Records, table: str, intervals: list[tuple[int, int]]) -> None:
    """An evaluation writes one row, of the start of its interval."""
    rows = records.ask("warehouse", f"SELECT EXTRACT(EPOCH FROM at)::BIGINT * 1000 FROM {table} ORDER BY 1")
    written = [int(at) for (at,) in rows]
    assert written == [start for start, _ in intervals], f"{table} has {written}, recorded are {intervals}"


def _write(folder: Path, models: dict[str, str]) -> None:
    write_config(folder, cloud_config())
    (folder / "models").mkdir()
    for name, text in models.items():
        (folder / "models" / f"{name}.sql").write_text(text)


def _plan(stack: RunningStack, folder: Path, environment: str, *options: str) -> None:
    planned = stack.tcloud("sqlmesh", "-p", str(folder), "plan", environment, "--auto-apply", "--no-prompts", *options)
    assert planned.returncode == 0, planned.stdout + planned.stderr
