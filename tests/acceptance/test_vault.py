"""A connection of the vault: executors use it, and its password is nowhere, whatever goes well or wrong."""

import json
import re
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psutil
import psycopg2
import pytest
from psycopg2.extensions import encrypt_password

from tcloud.main import run
from tests.acceptance.locks import held_up, waiting
from tests.eventually import eventually
from tests.fixtures.processes import run_executor
from tests.fixtures.records import Records
from tests.fixtures.stack import RunningStack

pytestmark = [pytest.mark.xdist_group("stack"), pytest.mark.timeout(400)]

GATEWAY = "vaulted"
PASSWORD = "canary-Pa55-of-the-role"
WRONG = "canary-Pa55-that-is-wrong"
LOCK = 771_013
CONFIG = f"""
gateways:
  warehouse: {{scheduler: {{type: cloud}}}}
  {GATEWAY}: {{scheduler: {{type: cloud}}}}
default_gateway: {GATEWAY}
model_defaults: {{dialect: postgres, start: 2025-01-01, cron: '@daily'}}
"""
HELD = f"""
MODEL (name vaulted.held, kind FULL);
SELECT 1 AS one, CAST(pg_advisory_xact_lock_shared({LOCK}) AS TEXT) AS held
"""
BROKEN = "MODEL (name vaulted.broken, kind FULL); SELECT CAST(CURRENT_USER::TEXT AS INT) AS number"
HBA = f"local {GATEWAY} canary scram-sha-256\n"


@contextmanager
def role_with_a_password(stack: RunningStack) -> Iterator[dict[str, str]]:
    """A database that takes a password from its owner; as SQLMesh's connection."""
    hba = stack.data_dir / "postgres" / "data" / "pg_hba.conf"
    before = hba.read_text()
    with closing(psycopg2.connect(stack.warehouse_dsn)) as connection:
        connection.autocommit = True
        verifier = encrypt_password(PASSWORD, "canary", connection, "scram-sha-256")
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE ROLE canary LOGIN PASSWORD '{verifier}'")
            cursor.execute(f"CREATE DATABASE {GATEWAY} OWNER canary")
            hba.write_text(HBA + before)
            cursor.execute("SELECT pg_reload_conf()")
        found = re.search(r"host=([^&]+)", stack.warehouse_dsn)
        assert found is not None
        address = {"host": found[1], "port": "5432", "database": GATEWAY, "user": "canary"}
        eventually(lambda: not opens(address, WRONG))
        assert opens(address, PASSWORD)
        yield {"type": "postgres", **address, "password": PASSWORD}
        hba.write_text(before)


def opens(address: dict[str, str], password: str) -> bool:
    with suppress(psycopg2.OperationalError):
        psycopg2.connect(
            host=address["host"], port=address["port"], dbname=GATEWAY, user="canary", password=password
        ).close()
        return True
    return False


def rows_of_everything(stack: RunningStack) -> Iterator[str]:
    """Every row of every table of every database of the stack."""
    records = Records(stack)
    for (database,) in records.ask("postgres", "SELECT datname FROM pg_database WHERE datallowconn"):
        tables = records.ask(
            database,
            "SELECT quote_ident(table_schema) || '.' || quote_ident(table_name) "
            "FROM information_schema.tables WHERE table_type = 'BASE TABLE'",
        )
        for (table,) in tables:
            for (row,) in records.ask(database, f"SELECT t::text FROM {table} AS t"):
                yield row or ""


def files_of(stack: RunningStack) -> Iterator[Path]:
    """Whatever the stack has written, its output and its executors' scratch folders included."""
    with closing(psycopg2.connect(stack.warehouse_dsn)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("CHECKPOINT")
    children = psutil.Process(stack.process.pid).children()
    scratch = [folder for child in children for folder in Path(tempfile.gettempdir()).glob(f"tm-{child.pid}-*")]
    for folder in (stack.data_dir, *scratch):
        yield from (path for path in folder.rglob("*") if path.is_file())
    yield stack.data_dir.with_suffix(".out")


def told_by_proc(stack: RunningStack) -> Iterator[bytes]:
    """The command lines and variables of all of the stack's processes."""
    parent = psutil.Process(stack.process.pid)
    for process in (parent, *parent.children(recursive=True)):
        for name in ("cmdline", "environ"):
            with suppress(OSError):
                yield Path(f"/proc/{process.pid}/{name}").read_bytes()


def holds_none(text: bytes | str) -> bool:
    content = text if isinstance(text, bytes) else text.encode()
    return not any(secret.encode() in content for secret in (PASSWORD, WRONG))


def test_its_password_is_nowhere(
    tempomesh_stack: RunningStack,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    stack = tempomesh_stack
    for name, value in {**stack.client_environment, "TCLOUD_HOME": str(stack.data_dir / "client")}.items():
        monkeypatch.setenv(name, value)
    (project := tmp_path / "project").mkdir()
    (project / "models").mkdir()
    (project / "config.yaml").write_text(CONFIG)
    (project / "models" / "held.sql").write_text(HELD)
    said = []

    def tcloud(*arguments: str, code: int = 0) -> str:
        # In this process, where it takes a second less.
        capfd.readouterr()
        found = run(arguments)
        printed = capfd.readouterr()
        said.append(printed.out + printed.err)
        assert found == code, said[-1]
        return printed.out if code == 0 else printed.err

    def sqlmesh(*arguments: str, code: int = 0) -> str:
        result = stack.tcloud("sqlmesh", "-p", str(project), *arguments)
        said.append(result.stdout + result.stderr)
        assert result.returncode == code, said[-1]
        return result.stdout

    bare = run_executor(stack, tmp_path / "bare", {}, without=("SQLMESH__",))
    with role_with_a_password(stack) as connection, bare as identity:
        with stack.api() as api:
            (without_any,) = [executor for executor in api.executors() if executor.identity == identity]
            assert without_any.gateways == []
        file = tmp_path / "connection.yaml"
        add = ("connections", "add", GATEWAY, "-p", str(project), "--file", str(file))
        file.write_text(json.dumps({**connection, "password": WRONG}))
        refusal = tcloud(*add, code=1)
        assert "was not kept. The warehouse cannot be reached: gateway 'vaulted' (postgres): " in refusal
        assert "password authentication failed" in refusal
        assert json.loads(tcloud("connections", "list", "-o", "json")) == []

        file.write_text(json.dumps(connection))
        kept = json.loads(tcloud(*add, "-o", "json"))
        assert (kept["gateway"], kept["type"], kept["default_catalog"]) == (GATEWAY, "postgres", GATEWAY)
        assert {name.split("@")[0] for name in kept["executors"]} == {"apply", "run"}
        assert identity in kept["executors"]
        refusal = tcloud("connections", "add", "warehouse", "--file", str(file), code=1)
        assert "brings the connection of gateway 'warehouse' itself" in refusal

        try:
            plan = ("plan", "vaulted", "--auto-apply", "--no-prompts", "--include-unmodified")
            with ThreadPoolExecutor() as thread:
                with held_up(stack, LOCK, GATEWAY):
                    planning = thread.submit(sqlmesh, *plan)
                    eventually(lambda: planning.done() or waiting(stack, LOCK) == 1, 60)
                    assert all(holds_none(told) for told in told_by_proc(stack))
                planning.result(120)
            assert Records(stack).ask(GATEWAY, "SELECT one FROM vaulted__vaulted.held") == [(1,)]
            (project / "models" / "broken.sql").write_text(BROKEN)
            assert "invalid input syntax" in sqlmesh(*plan, code=1)
            sqlmesh("state", "export", "-o", str(tmp_path / "state"), "--no-confirm")
            for command in (("connections", "list"), ("connections", "show", GATEWAY), ("executors", "list")):
                tcloud(*command, "-o", "json")
        finally:
            deleted = tcloud("connections", "delete", GATEWAY, "--force", "-o", "json")
        assert json.loads(deleted)["gateway"] == GATEWAY

        def gateways() -> set[str]:
            with stack.api() as api:
                return {gateway.name for gateway in api.gateways()}

        eventually(lambda: gateways() == {"warehouse"}, 30)

        assert all(holds_none(text) for text in said)
        assert holds_none((tmp_path / "state").read_bytes())
        log = (tmp_path / "bare").read_text()
        assert holds_none(log)
        assert log.count("no_connection_yet") == 1
        seen = 0
        for path in files_of(stack):
            with suppress(FileNotFoundError):
                content = path.read_bytes()
                seen += GATEWAY.encode() in content
                assert holds_none(content), path
        assert seen > 3, "what is looked through is not what the stack has written"
        assert all(holds_none(row) for row in rows_of_everything(stack))
