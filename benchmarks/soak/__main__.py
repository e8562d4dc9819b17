"""Random faults for as long as one likes: `uv run python -m benchmarks.soak --minutes 60 --seed 7`.

Dozens of models on a whole stack, with a second run executor behind a network that can be cut. Each fault strikes while
a run evaluates, and ends with the same check: the run has an end, every due interval is recorded exactly once, tables
hold it once, and no claim or slot is left. Other models tick by schedules all the while, each minute; at the end the
check is made of them, too.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import psutil

from benchmarks.soak.faults import FAULTS, Fault, Target
from benchmarks.soak.projects import Steps, check_ticks, plan_ticks
from tcloud.errors import TcloudError
from tcloud.wire.statuses import Status
from tests.eventually import eventually
from tests.fixtures.networks import network
from tests.fixtures.processes import StackProcesses, run_executor
from tests.fixtures.records import Records
from tests.fixtures.stack import RunningStack, running_stack

RUN_SECONDS = 300
CHECK_SECONDS = 120
CALM_SECONDS = 400
"""Maintenance, which makes up for ticks that nobody has seen, comes every five minutes."""


def main() -> int:
    """Strikes and checks, and says how it went; 1 if a check failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="for how long faults strike (default: 10)")
    parser.add_argument("--seed", type=int, default=None, help="the same faults in the same order again")
    parser.add_argument("--folder", type=Path, default=None, help="where data and logs go, and stay")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else Random().randrange(1_000_000)
    print(f"seed {seed}", flush=True)
    with _folder(arguments.folder) as folder, running_stack(folder / "stack") as stack:
        return _Soak(stack, folder, Random(seed)).run(arguments.minutes * 60)


class _Soak:
    def __init__(self, stack: RunningStack, folder: Path, random: Random):
        self._stack = stack
        self._folder = folder
        self._random = random
        self._records = Records(stack)
        self._steps = Steps(stack, folder / "steps")
        self._step = 0
        self._struck: dict[str, int] = {}
        self._evaluations = 0
        self._repeated = 0
        self._failures: list[str] = []

    def run(self, seconds: float) -> int:
        self._steps.plan()
        plan_ticks(self._stack, self._folder / "ticks")
        port = self._stack.ports[0]
        with ExitStack() as context:
            between = context.enter_context(network(port))
            url = self._stack.url.replace(f":{port}/", f":{between.port}/")
            context.enter_context(run_executor(self._stack, self._folder / "second.log", {"TCLOUD_URL": url}))
            target = Target(StackProcesses(self._stack), between, self._random)
            began = time.monotonic()
            for fault in self._faults():
                if time.monotonic() - began > seconds or self._failures:
                    break
                self._strike(fault, target, began)
            if not self._failures:
                self._attempt("the end", self._end)
        struck = ", ".join(f"{count} times {name}" for name, count in sorted(self._struck.items()))
        print(f"{self._step} steps, {self._evaluations} evaluations, {self._repeated} of them repeated; {struck}")
        print("\n".join(f"FAILED: {failure}" for failure in self._failures) or "every check passed")
        return 1 if self._failures else 0

    def _faults(self) -> Iterator[Fault]:
        """All of them, in another order each time."""
        while True:
            yield from self._random.sample(FAULTS, len(FAULTS))

    def _strike(self, fault: Fault, target: Target, began: float) -> None:
        self._step += 1
        self._struck[fault.name] = self._struck.get(fault.name, 0) + 1
        at = time.monotonic()
        said = self._attempt(f"step {self._step}, {fault.name}", lambda: self._survive(fault, target))
        took = time.monotonic() - at
        print(f"{at - began:6.0f} s  step {self._step:3d}  {fault.name:32s} {took:5.1f} s  {said}", flush=True)

    def _attempt(self, what: str, attempt: Callable[[], str]) -> str:
        try:
            return attempt()
        except (AssertionError, TcloudError) as error:
            self._failures.append(f"{what}: {error}")
            return "FAILED"

    def _survive(self, fault: Fault, target: Target) -> str:
        run_id = self._start()
        eventually(lambda: self._steps.queries() > 0, CHECK_SECONDS)
        time.sleep(self._random.random() * 2)
        _until(lambda: fault.strike(target), CHECK_SECONDS)
        run = self._records.ended(run_id, RUN_SECONDS)
        runs = [run]
        while run.status == Status.FAILED and fault.may_fail and len(runs) < 3:
            run = self._records.ended(self._start(), RUN_SECONDS)
            runs.append(run)
        assert run.status == Status.SUCCESS, f"run {run.run_id} ended as {run.status}: {run.error_message}"
        _until(lambda: self._steps.check(self._step), CHECK_SECONDS)
        self._records.nothing_is_held(CHECK_SECONDS)
        evaluations = [evaluation for ended in runs for evaluation in ended.evaluations or []]
        repeated = sum(evaluation.attempt > 1 for evaluation in evaluations)
        self._evaluations += len(evaluations)
        self._repeated += repeated
        again = f", {len(runs)} runs" if len(runs) > 1 else ""
        return f"{len(evaluations)} evaluations, {repeated} repeated{again}: ok"

    def _end(self) -> str:
        """What has ticked all the while has lost nothing, either, and every run has an end."""
        _until(lambda: check_ticks(self._stack), CALM_SECONDS)
        with self._stack.api() as api:
            api.unschedule_environment("prod")
            eventually(lambda: not api.runs(statuses=(Status.SCHEDULED, Status.IN_PROGRESS)), RUN_SECONDS)
        self._records.nothing_is_held(CHECK_SECONDS)
        return "ok"

    def _start(self) -> str:
        def start() -> str:
            try:
                return self._steps.start_run(self._step)
            except TcloudError as error:
                raise AssertionError(str(error)) from error

        return eventually(start, CHECK_SECONDS)


def _until(check: Callable[[], None], timeout: float) -> None:
    def holds() -> bool:
        try:
            check()
        except psutil.Error as error:
            raise AssertionError(str(error)) from error
        return True

    eventually(holds, timeout)


@contextmanager
def _folder(wanted: Path | None) -> Iterator[Path]:
    if wanted is not None:
        wanted.mkdir(parents=True)
        yield wanted
        return
    # A short path: the address of PostgreSQL's socket has to fit.
    with TemporaryDirectory(prefix="tm") as folder:
        yield Path(folder)


if __name__ == "__main__":
    sys.exit(main())
