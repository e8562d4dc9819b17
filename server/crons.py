"""Which models of an environment SQLMesh would evaluate, or restate, on which cron."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock
from zoneinfo import ZoneInfo

from croniter.croniter import CroniterBadDateError
from sqlmesh.core import constants as c
from sqlmesh.core.environment import Environment
from sqlmesh.core.model.kind import ModelKindName
from sqlmesh.utils.cron import CroniterCache

from server.database import Transaction
from server.state_reads import stored_snapshots
from tcloud.wire.environments import CronGroup

__all__ = ["EnvironmentCrons", "EnvironmentFacts", "next_tick", "ticks"]

_KEPT = 256
_UTC = "UTC"
_NEVER_ON_A_CRON = (ModelKindName.SEED, ModelKindName.EMBEDDED)
"""A seed is loaded once, by a plan; an embedded model is part of others. An external model is due only if audited."""


@dataclass(frozen=True)
class EnvironmentFacts:
    """What follows from the snapshots of an environment, and so changes only with its plan."""

    models: int
    """Promoted models, standalone audits not counted."""
    crons: tuple[CronGroup, ...]


class EnvironmentCrons:
    """Facts of environments, computed once for each plan and kept while they are asked for."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str, str], EnvironmentFacts] = OrderedDict()
        self._lock = Lock()

    def get(self, transaction: Transaction, environment: str, plan_id: str) -> EnvironmentFacts:
        """Returns the facts of an environment as one plan left it; none if the environment is gone since."""
        key = (transaction.project.namespace, environment, plan_id)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        found = transaction.state.get_environment(environment)
        if found is None:
            return EnvironmentFacts(0, ())
        facts = EnvironmentFacts(_count_models(found), tuple(_groups(transaction, found)))
        with self._lock:
            self._kept[key[0], environment, found.plan_id] = facts
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return facts


def next_tick(crons: Iterable[CronGroup]) -> datetime | None:
    """The next instant at which one of the crons is due, as SQLMesh reads crons; None if there is none."""
    now = datetime.now(UTC)
    found = [tick for group in crons for tick in ticks(group, now, 1)]
    return min(found).astimezone(UTC) if found else None


def ticks(group: CronGroup, after: datetime, count: int) -> list[datetime]:
    """The next instants of a cron, fewer if its years are over, or if there is no such day."""
    found: list[datetime] = []
    try:
        cron = CroniterCache(group.cron, after, tz=ZoneInfo(group.timezone))
        while len(found) < count:
            found.append(cron.get_next())
    except CroniterBadDateError:
        pass
    return found


def _count_models(environment: Environment) -> int:
    return sum(1 for snapshot in environment.promoted_snapshots if snapshot.is_model)


def _groups(transaction: Transaction, environment: Environment) -> Iterator[CronGroup]:
    candidates = [s for s in environment.snapshots if s.kind_name not in _NEVER_ON_A_CRON]
    groups: dict[tuple[str, str], set[str]] = {}
    for name, stored in stored_snapshots(transaction, candidates):
        node = stored["node"]
        kind = node.get("kind", {})
        if kind.get("name") == ModelKindName.EXTERNAL and not node.get("audits"):
            continue
        groups.setdefault((node["cron"], node.get("cron_tz") or _UTC), set()).add(name)
        # SQLMesh restates in a run of prod, whatever woke it, and evaluates at once what it has restated: the model's
        # own cron has ticked for those intervals before. It reads this cron in UTC.
        restates = kind.get("auto_restatement_cron") and not kind.get("disable_restatement")
        if restates and environment.name.lower() == c.PROD:
            groups.setdefault((kind["auto_restatement_cron"], _UTC), set()).add(name)
    for (cron, timezone), models in sorted(groups.items()):
        yield CronGroup(cron=cron, timezone=timezone, models=sorted(models))
