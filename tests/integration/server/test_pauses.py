"""Pauses: who may, what is said, and what starts; the property test holds it against the semantics in plain Python."""

import random
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlmesh.core.snapshot import Snapshot, SnapshotIntervals
from sqlmesh.utils.date import to_timestamp

from server.projects import Role
from tcloud.wire.executions import Execution, OwnerKind, SnapshotRef, StartUnit, Unit, UnitKind, UnitStarted, Verdict
from tests.fixtures.databases import Database
from tests.fixtures.temporal import TemporalServer
from tests.integration.server.conftest import RunningServer, serving
from tests.integration.server.states import dag_of, promoted, remote_state
from tests.integration.server.test_units import evaluations_of, start, take_turn
from workflows.payloads import UnitGraph, UnitReport
from workflows.walk import UnitWalk

DAY = 86_400_000
FIRST = to_timestamp("2024-01-01")
CHAIN = {"orders": [], "totals": ["orders"], "aside": []}


Roles = tuple[httpx.Client, httpx.Client, httpx.Client]
"""An executor, the control worker, an administrator."""


@pytest.fixture
async def namespace(temporal: TemporalServer) -> str:
    return await temporal.fresh_namespace("pauses")


@pytest.fixture
def paused_server(
    database: Database, tmp_path: Path, temporal: TemporalServer, namespace: str
) -> Iterator[RunningServer]:
    """A server with a Temporal, without a control worker."""
    with serving(database.url, tmp_path / "cache", namespace, temporal.address) as running:
        yield running


@pytest.fixture
def roles(paused_server: RunningServer) -> Iterator[Roles]:
    with (
        paused_server.client(Role.EXECUTOR) as executor,
        paused_server.client(Role.WORKER) as worker,
        paused_server.client(Role.ADMIN) as admin,
    ):
        yield executor, worker, admin


def pause(client: httpx.Client, environment: str = "prod", reason: str = "upgrade", **more: Any) -> httpx.Response:
    return client.post(f"environments/{environment}/pause", json={"reason": reason, **more})


def pause_models(client: httpx.Client, model: str, environment: str = "prod", **more: Any) -> httpx.Response:
    body = {"environment": environment, "model": model, "reason": "broken", **more}
    return client.post("pauses", json=body)


def test_what_is_paused_is_said_to_everybody(paused_server: RunningServer) -> None:
    with (
        paused_server.client(Role.EXECUTOR) as executor,
        paused_server.client(Role.DEVELOPER) as ada,
        paused_server.client(Role.ADMIN) as admin,
    ):
        promoted(executor, dag_of(CHAIN), "plan-1")
        assert ada.post("environments/prod/resume", json={}).json()["code"] == "TM-PAUSE"
        assert pause(ada, "nowhere").json()["code"] == "TM-ENVIRONMENT"
        assert pause_models(ada, "db.nothing").json()["code"] == "TM-MODEL"
        assert pause_models(ada, "git:main").status_code == 422
        assert pause(ada, until="2024-01-01T00:00:00Z").status_code == 422
        assert {entry["allowed"] for entry in admin.get("audit-log").json()} == set()

        first = pause(ada).raise_for_status().json()
        assert (first["outcome"], first["environment"]["paused"]) == ("paused", True)
        assert first["environment"]["next_run_at"] is None
        again = pause(admin).json()
        assert (again["outcome"], again["pause"]) == ("already_paused", first["pause"])
        longer = pause(admin, "prod", "upgrade, part two", lasts="PT2H").json()
        assert (longer["outcome"], longer["pause"]["pause_id"]) == ("changed", first["pause"]["pause_id"])
        assert datetime.fromisoformat(longer["pause"]["until"]) > datetime.now(UTC) + timedelta(minutes=119)
        pause_models(ada, "db.orders").raise_for_status()
        shown = ada.get("environments/prod").json()
        assert [(found["model"], found["models"], found["created_by"]) for found in shown["pauses"]] == [
            (None, [], "developer"),
            ("db.orders", ['"db"."orders"'], "developer"),
        ]

        refused = ada.post("runs", json={"environment": "prod"})
        assert (refused.status_code, refused.json()["code"]) == (409, "TM-PAUSED")
        assert "paused by developer until " in refused.json()["message"]
        assert "upgrade, part two" in refused.json()["message"]
        assert ada.post("runs", json={"environment": "prod", "ignore_pause": True}).status_code == 403
        assert admin.post("runs", json={"environment": "prod", "ignore_pause": True}).status_code == 201

        resumed = admin.post("environments/prod/resume", json={}).raise_for_status().json()
        run = ada.get(f"runs/{resumed['run_id']}").json()
        assert (run["trigger"], run["status"], run["created_by"]) == ("resume", "scheduled", "admin")
        (left,) = ada.get("pauses", params={"environment": "prod"}).json()
        ended = ada.delete(f"pauses/{left['pause_id']}", params={"catch_up": False}).raise_for_status().json()
        assert ended["run_id"] is None
        assert ada.delete(f"pauses/{left['pause_id']}").json()["code"] == "TM-PAUSE"
        log = admin.get("audit-log", params={"subject": "prod"}).json()
        assert [entry["action"] for entry in log if not entry["allowed"]] == ["run.start"]
        assert {entry["address"] for entry in log} == {"127.0.0.1"}
        assert [(entry["actor"], entry["action"]) for entry in reversed(log)] == [
            ("developer", "environment.pause"),
            ("admin", "environment.pause"),
            ("developer", "model.pause"),
            ("developer", "run.start"),
            ("admin", "run.start"),
            ("admin", "environment.resume"),
            ("developer", "model.resume"),
        ]
        for statement in ("UPDATE tempomesh.audit_log SET actor = 'nobody'", "DELETE FROM tempomesh.audit_log"):
            with (
                pytest.raises(DBAPIError, match="only ever added"),
                paused_server.database.engine.begin() as connection,
            ):
                connection.execute(text(statement))


def test_the_pause_of_an_environment_holds_without_a_temporal(executor: httpx.Client, admin: httpx.Client) -> None:
    snapshots = dag_of(CHAIN)
    promoted(executor, snapshots, "plan-1")
    prepare(executor, "prod", "prod-1", snapshots, {s.name: (FIRST, FIRST + DAY) for s in snapshots})
    first, second = (start(executor, "prod-1", unit) for unit in (0, 2))
    assert pause(admin).raise_for_status().json()["cancelled_runs"] == []
    # Nothing new is started, what is in flight finishes.
    assert start(executor, "prod-1", 1).is_paused
    finish(executor, first, snapshots[0], (FIRST, FIRST + DAY))
    assert [evaluation["status"] for evaluation in evaluations_of(executor, "prod-1")] == [
        "success",
        "in_progress",
        "skipped",
    ]
    # Unless somebody wants it to stop.
    answer = pause(admin, now=True).raise_for_status().json()
    assert (answer["outcome"], answer["cancelled_runs"]) == ("already_paused", ["prod-1"])
    renewal = {"executor": "one", "evaluations": {second.evaluation_id: second.fence}}
    assert executor.post("leases", json=renewal).json() == {"lost": [second.evaluation_id]}
    run = admin.get("runs/prod-1").json()
    assert run["status"] == "aborted"
    assert "paused by admin: upgrade" in run["error_message"]


def test_a_paused_model_and_what_is_downstream_say_why_and_nobody_else_cares(roles: Roles) -> None:
    executor, worker, admin = roles
    snapshots = dag_of(CHAIN)
    promoted(executor, snapshots, "plan-1")
    promoted(executor, snapshots, "plan-1", "dev")
    day = {s.name: (FIRST, FIRST + DAY) for s in snapshots}
    prepare(executor, "prod", "prod-0", snapshots, day)
    in_flight = start(executor, "prod-0", 0)
    pause_id = pause_models(admin, "db.orders").raise_for_status().json()["pause"]["pause_id"]

    # The run is active and there is no control worker. The first that asks after the answer is refused, also in the
    # same breath as it tells how the last one ended.
    turn = {"finish": ending(in_flight, snapshots[0], day[snapshots[0].name]), "start": asking("prod-0", 1)}
    refused = UnitStarted.model_validate_json(take_turn(executor, turn).raise_for_status().content)
    assert (refused.verdict, refused.is_paused) == (Verdict.SKIP, True)
    finish(executor, start(executor, "prod-0", 2), snapshots[2], day[snapshots[2].name])
    told = {found["model"]: found["status"] for found in evaluations_of(executor, "prod-0")}
    assert told == {'"db"."orders"': "success", '"db"."totals"': "skipped", '"db"."aside"': "success"}

    # Also where the paused model itself has nothing to do.
    prepare(executor, "prod", "prod-1", snapshots, {name: days for name, days in day.items() if "orders" not in name})
    downstream = start(executor, "prod-1", 0)
    assert (downstream.verdict, downstream.is_paused) == (Verdict.SKIP, True)
    assert f'"db"."totals" is downstream of "db"."orders", which is paused by admin: broken (pause {pause_id}).' == (
        downstream.error_message
    )
    assert walk(executor, worker, "prod", "prod-2", snapshots, day) == {"aside": [0]}
    told = {found["model"]: found["error_message"] for found in evaluations_of(executor, "prod-2")}
    assert told['"db"."orders"'] == f'"db"."orders" is paused by admin: broken (pause {pause_id}).'
    assert told['"db"."totals"'] == 'Upstream model "db"."orders" was skipped: ' + told['"db"."orders"']
    assert walk(executor, worker, "dev", "dev-1", snapshots, day) == {"orders": [0], "totals": [0], "aside": [0]}


def test_models_that_a_plan_adds_are_paused_if_they_match(roles: Roles) -> None:
    executor, worker, admin = roles
    promoted(executor, dag_of(CHAIN, {"orders": "sales"}), "plan-1")
    pause_models(admin, "tag:sales").raise_for_status()
    grown = dag_of({**CHAIN, "clients": [], "report": ["clients"]}, {"orders": "sales", "clients": "sales"})
    promoted(executor, grown, "plan-2", previous="plan-1")
    (found,) = admin.get("pauses").json()
    assert (found["model"], found["models"]) == ("tag:sales", ['"db"."clients"', '"db"."orders"'])
    day = {s.name: (FIRST, FIRST + DAY) for s in grown}
    assert walk(executor, worker, "prod", "prod-1", grown, day) == {"aside": [0]}


def test_an_end_that_has_come_is_the_end_whoever_is_away(roles: Roles, paused_server: RunningServer) -> None:
    executor, worker, admin = roles
    for environment in ("prod", "dev"):
        promoted(executor, dag_of(CHAIN), "plan-1", environment)
        pause(admin, environment, lasts="PT1H").raise_for_status()
    with paused_server.database.engine.begin() as connection:
        connection.execute(text("UPDATE tempomesh.pauses SET until = now() - interval '1 minute'"))
    assert admin.get("environments/prod").json()["paused"] is False
    # Another pause does not keep a run from catching up with what has ended.
    aside = pause_models(admin, "db.aside").raise_for_status().json()["pause"]["pause_id"]
    settled = [
        worker.post("environments/prod/pauses/settle", json={"run_id": run_id}).json() for run_id in ("r-1", "r-2")
    ]
    assert [(len(found["pauses"]), found["run_id"]) for found in settled] == [(1, "r-1"), (1, None)]
    entry = admin.get("audit-log").json()[0]
    assert (entry["actor"], entry["action"]) == ("tempomesh", "environment.resume")
    assert entry["details"]["run_id"] == "r-1"
    unheard = admin.delete(f"pauses/{aside}", params={"catch_up": False}).json()
    assert (unheard["run_id"], unheard["no_run"]) == (None, "The next tick evaluates what is due.")

    # Nothing runs by itself in an environment that is not scheduled, and nobody is told that it does.
    settled_dev = worker.post("environments/dev/pauses/settle", json={"run_id": "r-3"}).json()
    assert settled_dev == {"pauses": [], "run_id": None}
    assert admin.get("audit-log").json()[0]["details"]["run_id"] is None
    pause(admin, "dev").raise_for_status()
    unheard = admin.post("environments/dev/resume", json={"catch_up": False}).json()
    assert unheard["no_run"] == "Environment 'dev' is not scheduled: it runs when somebody says so."


@dataclass
class Semantics:
    """What pauses mean, without anything that does it."""

    reads: Mapping[str, Collection[str]]
    missing: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    is_paused: bool = False
    paused: set[str] = field(default_factory=set)

    def downstream(self, names: Collection[str]) -> set[str]:
        found = set(names)
        for name, read in self.reads.items():  # upstream first
            if found & set(read):
                found.add(name)
        return found

    def tick(self, day: int) -> dict[str, list[int]]:
        for name in self.reads:
            self.missing[name].add(day)
        return self.run()

    def run(self) -> dict[str, list[int]]:
        left_out = set(self.reads) if self.is_paused else self.downstream(self.paused)
        return {
            name: sorted(self.missing.pop(name)) for name in self.reads if name not in left_out and self.missing[name]
        }


SELECTIONS: dict[str, Callable[[Semantics, str], set[str]]] = {
    "db.{}": lambda _, name: {name},
    "db.{}+": lambda semantics, name: semantics.downstream({name}),
    "+db.{}": lambda semantics, name: {up for up in semantics.reads if name in semantics.downstream({up})},
    "*{}": lambda semantics, name: {other for other in semantics.reads if other.endswith(name)},
}


class Trial:
    """An environment of its own with random models, and what the semantics say of it."""

    def __init__(self, roles: Roles, chance: random.Random, number: int):
        self.executor, self.worker, self.admin = roles
        self.chance = chance
        self.environment = f"e{number}"
        self.names = [f"t{number}_m{n}" for n in range(chance.randint(1, 8))]
        reads = {name: chance.sample(self.names[:n], chance.randint(0, min(n, 2))) for n, name in enumerate(self.names)}
        self.snapshots = dag_of(reads)
        promoted(self.executor, self.snapshots, f"plan-{number}", self.environment)
        self.admin.post(f"environments/{self.environment}/schedule").raise_for_status()
        self.semantics = Semantics(reads)
        self.made: dict[str, set[str]] = {}
        self.day = 0

    def step(self) -> None:
        match self.chance.choice(["tick", "tick", "model", "delete", "environment"]):
            case "tick":
                self.day += 1
                assert self.run(f"{self.environment}-{self.day}") == self.semantics.tick(self.day - 1)
            case "model":
                name, selection = self.chance.choice(self.names), self.chance.choice(list(SELECTIONS))
                answer = pause_models(self.admin, selection.format(name), self.environment).raise_for_status().json()
                self.made[answer["pause"]["pause_id"]] = SELECTIONS[selection](self.semantics, name)
                self.semantics.paused = set().union(*self.made.values())
            case "delete" if self.made:
                self.end(self.chance.choice(sorted(self.made)))
            case "environment" if self.semantics.is_paused:
                self.resume()
            case "environment":
                pause(self.admin, self.environment).raise_for_status()
                self.semantics.is_paused = True

    def end(self, pause_id: str) -> None:
        del self.made[pause_id]
        self.semantics.paused = set().union(*self.made.values())
        self.check_catch_up(self.admin.delete(f"pauses/{pause_id}"))

    def resume(self) -> None:
        self.semantics.is_paused = False
        self.check_catch_up(self.admin.post(f"environments/{self.environment}/resume", json={}))

    def check_catch_up(self, answer: httpx.Response) -> None:
        run_id = answer.raise_for_status().json()["run_id"]
        assert (run_id is None) == self.semantics.is_paused
        if run_id is not None:
            assert self.run(run_id) == self.semantics.run()

    def run(self, run_id: str) -> dict[str, list[int]]:
        due = missing(self.executor, self.snapshots, self.day)
        return walk(self.executor, self.worker, self.environment, run_id, self.snapshots, due)


@pytest.mark.parametrize("seed", range(2))
def test_what_runs_is_what_the_semantics_say(roles: Roles, seed: int) -> None:
    chance = random.Random(seed)
    for number in range(5):
        trial = Trial(roles, chance, number)
        for _ in range(14):
            trial.step()
        if trial.semantics.is_paused:
            trial.resume()
        for pause_id in sorted(trial.made):
            trial.end(pause_id)
        # As if there had never been a pause: every day of every model is there.
        assert missing(trial.executor, trial.snapshots, trial.day) == {}


def missing(executor: httpx.Client, snapshots: list[Snapshot], days: int) -> dict[str, tuple[int, int]]:
    """What SQLMesh finds missing after so many days, merged: the last day that is missing ends at the last tick."""
    if not days:
        return {}
    known = remote_state(executor).get_snapshots([s.snapshot_id for s in snapshots])
    found = {}
    for snapshot in snapshots:
        intervals = known[snapshot.snapshot_id].missing_intervals(FIRST, FIRST + days * DAY, FIRST + days * DAY)
        if intervals:
            found[snapshot.name] = (intervals[0][0], intervals[-1][1])
    return found


def prepare(
    executor: httpx.Client,
    environment: str,
    run_id: str,
    snapshots: list[Snapshot],
    due: Mapping[str, tuple[int, int]],
) -> list[Snapshot]:
    """Begins a run of what is due, a unit a model, and returns the models of the units."""
    body = {"environment": environment, "trigger": "resume" if "-resume-" in run_id else "schedule"}
    executor.post(f"runs/{run_id}/begin", json=body).raise_for_status()
    models = [snapshot for snapshot in snapshots if snapshot.name in due]
    number = {snapshot.name: n for n, snapshot in enumerate(models)}
    execution = Execution(
        execution_id=run_id,
        owner_kind=OwnerKind.RUN,
        owner_id=run_id,
        environment=environment,
        naming_info={},
        gateway="warehouse",
        default_catalog=None,
        execution_time="2024-01-10",
        deployability_index={},
        snapshots=[SnapshotRef(name=s.name, identifier=s.identifier, version=s.version) for s in models],
        units=[
            Unit(
                kind=UnitKind.EVALUATE,
                snapshot=n,
                interval=due[snapshot.name],
                dependencies=sorted(number[parent.name] for parent in snapshot.parents if parent.name in number),
            )
            for n, snapshot in enumerate(models)
        ],
    )
    executor.put(f"executions/{run_id}", content=execution.model_dump_json()).raise_for_status()
    return models


def walk(
    executor: httpx.Client,
    worker: httpx.Client,
    environment: str,
    run_id: str,
    snapshots: list[Snapshot],
    due: Mapping[str, tuple[int, int]],
) -> dict[str, list[int]]:
    """Runs what is due as a workflow and its executors do, and returns which days of which models ran."""
    models = prepare(executor, environment, run_id, snapshots, due)
    number = {snapshot.name: n for n, snapshot in enumerate(models)}
    depends = [[number[parent.name] for parent in s.parents if parent.name in number] for s in models]
    units = UnitWalk(UnitGraph(execution_id=run_id, kinds="e" * len(models), dependencies=depends))
    ran: dict[str, list[int]] = {}
    while bundle := units.take():
        reports: list[UnitReport] = []
        for unit in bundle:
            if any(d in bundle and reports[bundle.index(d)] != UnitReport.DONE for d in depends[unit]):
                reports.append(UnitReport.RETURNED)
                continue
            started = start(executor, run_id, unit)
            reports.append(UnitReport.SKIPPED if started.verdict is Verdict.SKIP else UnitReport.DONE)
            if started.verdict is Verdict.SKIP:
                continue
            snapshot = models[unit]
            finish(executor, started, snapshot, due[snapshot.name])
            since, until = due[snapshot.name]
            ran[snapshot.name.split('"')[-2]] = list(range((since - FIRST) // DAY, (until - FIRST) // DAY))
        units.book(bundle, "".join(reports))
    skipped = [n for n, state in enumerate(units.states) if state == "s"]
    worker.post(f"executions/{run_id}/outcome", json={"skipped": skipped}).raise_for_status()
    worker.post(f"runs/{run_id}/status", json={"status": "success"}).raise_for_status()
    for evaluation in evaluations_of(executor, run_id):
        assert evaluation["status"] == "success" or "(pause " in evaluation["error_message"]
    return ran


def asking(run_id: str, unit: int) -> dict[str, Any]:
    return StartUnit(execution_id=run_id, unit=unit, executor="one").model_dump()


def finish(executor: httpx.Client, started: UnitStarted, snapshot: Snapshot, interval: tuple[int, int]) -> None:
    take_turn(executor, {"finish": ending(started, snapshot, interval)}).raise_for_status()


def ending(started: UnitStarted, snapshot: Snapshot, interval: tuple[int, int]) -> dict[str, Any]:
    assert started.verdict is Verdict.GO
    intervals = SnapshotIntervals(
        name=snapshot.name,
        identifier=snapshot.identifier,
        version=snapshot.version,
        dev_version=snapshot.dev_version,
        intervals=[interval],
    )
    return {
        "evaluation_id": started.evaluation_id,
        "fence": started.fence,
        "status": "success",
        "intervals": intervals.dict(),
    }
