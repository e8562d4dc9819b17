"""Environments with libraries of their own: two versions of one at the same time, and what cannot be had."""

import asyncio
import json
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from envmanager.uv import Uv
from tests.fixtures.stack import RunningStack
from tests.integration.envmanager.test_pythons import other_interpreter

pytestmark = pytest.mark.timeout(400)

CONFIG = """
gateways:
  warehouse:
    scheduler: {{type: cloud{options}}}
default_gateway: warehouse
model_defaults: {{dialect: postgres, start: 2025-01-01, cron: '@daily'}}
"""
MODEL = """
import os
import sys
import humanize
import pandas as pd
from sqlmesh import model

@model("pythons.library", kind="FULL", columns={{"version": "text"}}, audits=[("of_this_library", {{}})])
def execute(context, start, end, execution_time, **kwargs):
    os.write(1, b"said past Python")
    print("of {environment} in Python", *sys.version_info[:2])
    return pd.DataFrame({{"version": [humanize.__version__]}})
"""
MACRO = """
import yaml
from sqlmesh import macro

@macro()
def from_yaml(evaluator, text):
    return str(yaml.safe_load(text.name)["a"])
"""
OTHER_MACRO = """
import humanize
from sqlmesh import macro

@macro()
def library_version(evaluator):
    return f"'{humanize.__version__}'"
"""
AUDIT = "AUDIT (name of_this_library); SELECT * FROM @this_model WHERE version <> @library_version()"
BY_HAND = """
import sys
from tcloud.scheduler import RemoteContext

context = RemoteContext(paths=sys.argv[1])
day = {"start": "2025-01-02", "end": "2025-01-02", "execution_time": "2025-01-03 12:00:00"}
print("evaluated", context.evaluate("pythons.library", **day).iloc[0, 0])
print("audited", context.audit(models=["pythons.library"], **day))
"""
SQL = "MODEL (name pythons.parsed, kind FULL); SELECT @from_yaml('{a: 1}')::INT AS a"
VERSIONS = {"pythons_one": "4.9.0", "pythons_two": "4.12.3"}


def write(folder: Path, environment: str, lock: str, options: str = "") -> Path:
    for path, text in {
        "config.yaml": CONFIG.format(options=options),
        "models/library.py": MODEL.format(environment=environment),
        "models/parsed.sql": SQL,
        "macros/__init__.py": "",
        "macros/parsing.py": MACRO,
        "macros/library.py": OTHER_MACRO,
        "audits/library.sql": AUDIT,
        "sqlmesh-requirements.lock": lock,
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def plan(stack: RunningStack, folder: Path, environment: str) -> tuple[int, str]:
    done = stack.tcloud(
        *("sqlmesh", "-p", str(folder), "plan", environment, "--auto-apply", "--no-prompts", "--include-unmodified"),
        *("--execution-time", "2025-01-03 12:00:00"),
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def shown(stack: RunningStack, *what: str) -> Any:
    done = stack.tcloud(*what, "-o", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def library(stack: RunningStack, environment: str) -> str:
    with closing(psycopg2.connect(stack.warehouse_dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT version FROM pythons__{environment}.library")
        ((found,),) = cursor.fetchall()
        return str(found)


def other_python(folder: Path) -> str:
    """A Python version that is on this machine, and not the executors' own if there is another."""
    return asyncio.run(other_interpreter(Uv(os.environ, folder))).minor


def test_each_environment_has_its_own_libraries(tempomesh_stack: RunningStack, tmp_path: Path) -> None:
    stack = tempomesh_stack
    other = other_python(tmp_path)
    options = {"pythons_one": "", "pythons_two": f', python_version: "{other}"'}
    folders = {
        environment: write(tmp_path / environment, environment, f"humanize=={found}\n^pandas\n", options[environment])
        for environment, found in VERSIONS.items()
    }

    with ThreadPoolExecutor() as planning:
        planned = list(planning.map(lambda e: plan(stack, folders[e], e), VERSIONS))

    assert [code for code, _ in planned] == [0, 0], planned
    assert "Resolving the Python packages of 'pythons_one'" in planned[0][1]
    assert {environment: library(stack, environment) for environment in VERSIONS} == VERSIONS
    python = shown(stack, "environments", "python", "show", "pythons_one")
    # The lock's version wins, its exclusion is not asked for, and what a macro imports is inferred.
    asked = {each["name"]: (each["version"], each["models"]) for each in python["requirements"]}
    assert asked == {
        "humanize": ("4.9.0", ["pythons.library"]),
        "PyYAML": (version("pyyaml"), ["pythons.parsed"]),
    }
    assert {"name": "humanize", "version": "4.9.0"} in python["packages"]
    said = stack.tcloud("plans", "logs", python["plan_id"], "--model", "pythons.library").stdout
    assert ("of pythons_one in Python" in said, "said past Python" in said) == (True, True), said
    # What is asked by hand runs in the same environment; nothing is resolved or built for it.
    by_hand = stack.python(BY_HAND, str(folders["pythons_one"]))
    assert ("evaluated 4.9.0" in by_hand.stdout, "audited True" in by_hand.stdout) == (True, True), by_hand
    assert "Python packages" not in by_hand.stdout + by_hand.stderr

    started = stack.tcloud(
        *("runs", "start", "--environment", "pythons_two", "-o", "json"),
        *("--end", "2025-01-03", "--execution-time", "2025-01-04 12:00:00"),
    )

    assert started.returncode == 0, started.stdout + started.stderr
    assert library(stack, "pythons_two") == VERSIONS["pythons_two"]
    (run, *_) = shown(stack, "runs", "list", "--environment", "pythons_two")
    evaluations = shown(stack, "runs", "show", run["run_id"])["evaluations"]
    assert {e["status"] for e in evaluations} == {"success"}
    logs = stack.tcloud("runs", "logs", run["run_id"]).stdout
    assert f"of pythons_two in Python {other.replace('.', ' ')}" in logs
    assert "said past Python" in logs
    executors = [shown(stack, "executors", "show", each["identity"]) for each in shown(stack, "executors", "list")]
    key = shown(stack, "environments", "python", "show", "pythons_two")["key"]
    # `tcloud dev` has its executors on one machine: what one has built, all have.
    assert all(key in {built["key"] for built in executor["pythons"]} for executor in executors), executors

    write(folders["pythons_one"], "pythons_three", "humanize==99.0\n")
    code, said = plan(stack, folders["pythons_one"], "pythons_one")

    assert code == 1
    assert "there is no version of humanize==99.0" in said
    assert "humanize==99.0 is asked for by pythons.library." in said
    assert library(stack, "pythons_one") == VERSIONS["pythons_one"]
    assert shown(stack, "environments", "python", "show", "pythons_one")["key"] == python["key"]
