"""What is done to a stack while it works."""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tests.fixtures.networks import Network
from tests.fixtures.processes import StackProcesses

__all__ = ["FAULTS", "Fault", "Target"]

AWAY_SECONDS = 20


@dataclass(frozen=True)
class Target:
    """What faults are done to."""

    processes: StackProcesses
    network: Network
    """Between the second run executor and the server."""
    random: Random


@dataclass(frozen=True)
class Fault:
    """One kind of fault."""

    name: str
    strike: Callable[[Target], None]
    may_fail: bool = False
    """Whether an evaluation may fail of it: the run is then repeated."""


def _cut_the_network(target: Target) -> None:
    target.network.cut()
    time.sleep(AWAY_SECONDS)
    target.network.restore(forgets=target.random.random() < 0.5)


FAULTS = (
    Fault("kill -9 of a run executor", lambda target: target.processes.of("executor", "run").kill()),
    Fault("kill -9 of a runner process", lambda target: target.processes.newest_runner().kill(), may_fail=True),
    Fault("kill -9 of the control worker", lambda target: target.processes.of("worker").kill()),
    Fault("restart of Temporal", lambda target: target.processes.server_of("temporal").terminate()),
    Fault("kill -9 of Temporal", lambda target: target.processes.server_of("temporal").kill()),
    Fault("restart of the server", lambda target: target.processes.of("server").terminate()),
    Fault("kill -9 of the server", lambda target: target.processes.of("server").kill()),
    # "Fast": it breaks off what is in flight, as an administrator's restart does.
    Fault("restart of PostgreSQL", lambda target: target.processes.server_of("postgres").send_signal(signal.SIGINT)),
    Fault("SIGTERM of a run executor", lambda target: target.processes.of("executor", "run").terminate()),
    Fault(f"network gone for {AWAY_SECONDS} s", _cut_the_network),
)
