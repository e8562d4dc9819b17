"""SQLMesh's CI/CD bot for GitHub, with this scheduler: a pull request gets its environment, checks and a comment."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from stack.processes import tcloud_command
from tests.acceptance.github import GitHub, github
from tests.acceptance.projects import scheduled_config
from tests.fixtures.stack import RunningStack

pytestmark = pytest.mark.timeout(400)

CONFIG = f"""
project: cicd
{scheduled_config("2026-01-01")}
cicd_bot: {{type: github, enable_deploy_command: true, merge_method: squash}}
"""
MODEL = "MODEL (name cicd.orders, kind FULL); SELECT 1 AS id"


def bot(stack: RunningStack, hub: GitHub, folder: Path, event: dict[str, object]) -> subprocess.CompletedProcess[str]:
    """Runs the bot's whole course, as a workflow of GitHub Actions does for an event."""
    (folder / "event.json").write_text(json.dumps(event))
    variables = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_API_URL": hub.url,
        "GITHUB_EVENT_PATH": str(folder / "event.json"),
        "GITHUB_GRAPHQL_URL": f"{hub.url}/graphql",
        "GITHUB_OUTPUT": str(folder / "output"),
        "TCLOUD_HOME": str(stack.data_dir / "client"),
    }
    return subprocess.run(
        [*tcloud_command(), "sqlmesh_cicd", "-p", str(folder / "project"), "github", "--token", "secret", "run-all"],
        env={**os.environ, **stack.client_environment, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def test_a_pull_request(tempomesh_stack: RunningStack, tmp_path: Path) -> None:
    stack, project = tempomesh_stack, tmp_path / "project"
    (project / "models").mkdir(parents=True)
    (project / "config.yaml").write_text(CONFIG)
    (project / "models" / "orders.sql").write_text(MODEL)
    with github() as hub:
        done = bot(stack, hub, tmp_path, {"action": "opened", "pull_request": hub.pull_request})
        assert done.returncode == 0, done.stdout + done.stderr
        assert hub.unknown == []
        assert hub.conclusions() == {
            "Run Unit Tests": "success",
            "PR Environment Synced": "success",
            "Prod Plan Preview": "success",
            "Prod Environment Synced": "skipped",
        }
        assert "cicd.orders" in json.dumps(hub.checks["SQLMesh - Prod Plan Preview"][-1])
        assert "`shop_7`" in hub.comments[0]["body"]
        assert "pr_environment_name=shop_7" in (tmp_path / "output").read_text()
        shown = json.loads(stack.tcloud("environments", "show", "shop_7", "-o", "json").stdout)
        assert (shown["status"], shown["models"]) == ("ready", 1)
