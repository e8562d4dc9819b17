"""`tcloud runs start --select-model`: what SQLMesh's context selects, from state alone."""

import json
from contextlib import closing
from pathlib import Path

import pytest

from tcloud.api.client import Api
from tcloud.errors import InvalidError
from tcloud.scheduler import RemoteContext
from tcloud.scheduler.selection import select_models
from tcloud.scheduler.state import cloud_state
from tempomesh_runner.state import RemoteStateSync
from tests.integration.client.conftest import CATALOG, Machine

MODELS = {
    "events": "MODEL (name raw.events, kind FULL, tags [Hot, nightly]);\nSELECT 1::int AS id",
    "clicks": "MODEL (name raw.clicks, kind FULL, tags [hot]);\nSELECT id FROM raw.events",
    # What is embedded has no table of its own, and what reads it depends on what it reads.
    "inside": "MODEL (name demo.inside, kind EMBEDDED);\nSELECT id FROM raw.clicks",
    "report": "MODEL (name demo.report, kind FULL, tags [daily]);\n"
    "SELECT i.id FROM demo.inside AS i JOIN outside.x USING (id)",
    "other": "MODEL (name demo.other, kind FULL, dialect duckdb);\nSELECT 1::int AS id",
}
SELECTIONS = [
    ["demo.report"],
    ["+demo.report"],
    ["raw.events+"],
    ["+raw.clicks+"],
    ["tag:hot"],
    ["tag:h*"],
    ["+tag:daily"],
    ["raw.*"],
    ["demo.*", "raw.clicks"],
    ["demo.* & ^tag:daily"],
    ["(raw.events | demo.other)"],
    [f"{CATALOG}.demo.totals"],
    ["DEMO.Orders"],
    ["resource_type:model"],
]


@pytest.fixture
def planned(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A project with tags, embedded and external models, applied to `prod` as far as state knows."""
    project = machine.folder / "project"
    for name, model in MODELS.items():
        (project / "models" / f"{name}.sql").write_text(model)
    for name, value in machine.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(project)
    machine.server.beat("warehouse")
    with closing(RemoteContext(paths=str(project))) as context:
        plan = context.plan_builder("prod", skip_tests=True).build().to_evaluatable()
    with Api(machine.server.url, "executor") as api:
        state = RemoteStateSync(api.state)
        state.push_snapshots(plan.new_snapshots)
        state.promote(plan.environment)
        state.finalize(plan.environment)
    return machine


def test_what_sqlmesh_selects(planned: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(RemoteContext(paths=str(planned.folder / "project"))) as context:
        stored = context.state_sync.get_environment("prod")
        assert stored is not None
        snapshots = context.state_sync.get_snapshots(stored.snapshots).values()
        modelled = {s.name for s in snapshots}
        wanted = {
            (tuple(selections), alone): context._select_models_for_run(selections, alone, snapshots) & modelled
            for selections in SELECTIONS
            for alone in (False, True)
        }
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    with Api(planned.server.url, "developer") as api:
        state = cloud_state(api)
        for (selections, alone), expected in wanted.items():
            found = select_models(state, "prod", selections, default_catalog=CATALOG, no_auto_upstream=alone)
            assert set(found) == expected, (selections, alone)
            assert expected
        for wrong, says in (
            ("demo.nothing", "'demo.nothing' matches no model of environment 'prod'"),
            ("tag:nothing", "matches no model"),
            ("nowhere*", "matches no model"),
            ("demo.report &", "cannot be read"),
            ("resource_type:table", "cannot be read"),
            ("git:main", "use `tcloud sqlmesh run` in its folder"),
        ):
            with pytest.raises(InvalidError, match="--select-model") as raised:
                select_models(state, "prod", ["demo.report", wrong], default_catalog=CATALOG, no_auto_upstream=False)
            assert says in str(raised.value)
            assert len(str(raised.value).splitlines()) == 1


def test_a_selection_that_means_nothing_starts_nothing(planned: Machine) -> None:
    for arguments in (["--select-model", "demo.nothing"], ["--start", "nonsense"], ["--exit-on-env-update", "x"]):
        for output in ("table", "json"):
            result = planned.tcloud("runs", "start", *arguments, "-o", output)
            assert (result.returncode, result.stdout) == (2, ""), result.stderr
            assert "Traceback" not in result.stderr
    assert json.loads(planned.tcloud("runs", "list", "-o", "json").stdout) == []


def test_a_models_history_of_nothing(planned: Machine) -> None:
    assert json.loads(planned.tcloud("models", "history", "demo.report", "-o", "json").stdout) == []
    unknown = planned.tcloud("models", "history", "demo.nothing")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "There is no model 'demo.nothing'" in unknown.stderr
    when = planned.tcloud("runs", "list", "--since", "soon")
    assert (when.returncode, "'soon' is not a time" in when.stderr) == (2, True)
    assert planned.tcloud("runs", "list", "--since", "1 day ago", "--status", "failed", "--model", "demo.report").stdout
