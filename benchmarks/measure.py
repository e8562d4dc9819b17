"""Measures a case: both sides, round by round, in alternating order."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from operator import methodcaller
from statistics import median

from benchmarks.cases import Case, Work
from benchmarks.servers import servers
from benchmarks.sides import Builtin, Measurement, Side, Tempomesh

__all__ = ["Result", "measure"]

Task = Callable[[Side], Measurement]


@dataclass
class Result:
    """All rounds of a case."""

    case: Case
    builtin: list[Measurement] = field(default_factory=list)
    tempomesh: list[Measurement] = field(default_factory=list)

    @property
    def seconds(self) -> tuple[float, float]:
        """Medians: built-in, Tempomesh."""
        return median(m.seconds for m in self.builtin), median(m.seconds for m in self.tempomesh)

    @property
    def ratio(self) -> float:
        """Tempomesh's median over the built-in scheduler's."""
        builtin, tempomesh = self.seconds
        return tempomesh / builtin


def measure(case: Case, rounds: int, say: Callable[[str], None]) -> Result:
    """Measures `rounds` rounds of a case on stacks of its own.

    Args:
        case: What to measure.
        rounds: How often each side does it.
        say: Told what has just been measured.
    """
    result = Result(case)
    match case.work:
        case Work.FIRST:
            for number in range(rounds):
                with _sides(case) as sides:
                    _round(result, number, sides, methodcaller("plan"), say)
        case Work.IDLE:
            with _sides(case) as sides:
                for side in sides:
                    side.plan()
                for number in range(rounds):
                    _round(result, number, sides, methodcaller("tick"), say)
        case Work.DUE:
            today = datetime.now(UTC).date()
            ends = [(today - timedelta(days=rounds - number)).isoformat() for number in range(rounds)]
            planned_at = f"{today - timedelta(days=rounds)} 12:00:00"
            with _sides(case) as sides:
                for side in sides:
                    side.plan("--execution-time", planned_at)
                for number, end in enumerate(ends):
                    _round(result, number, sides, methodcaller("run", end), say)
    return result


@contextmanager
def _sides(case: Case) -> Iterator[tuple[Side, Side]]:
    with servers() as up:
        yield Builtin(case, up.folder / "with-builtin", up), Tempomesh(case, up.folder / "with-tempomesh", up)


def _round(
    result: Result,
    number: int,
    sides: tuple[Side, Side],
    task: Task,
    say: Callable[[str], None],
) -> None:
    builtin, tempomesh = sides
    for side in (builtin, tempomesh) if number % 2 == 0 else (tempomesh, builtin):
        measurement = task(side)
        (result.builtin if side is builtin else result.tempomesh).append(measurement)
        peak = f", largest process {measurement.memory.size / 2**20:.0f} MB" if measurement.memory.size else ""
        detail = f" ({measurement.detail})" if measurement.detail else ""
        say(f"{result.case.name} round {number + 1} {side.name}: {measurement.seconds:.2f} s{peak}{detail}")
