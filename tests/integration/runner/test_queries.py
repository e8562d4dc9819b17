"""What is asked of a warehouse from a machine without a connection is answered as SQLMesh answers it with one."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import chdir, closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd
import pytest
from sqlmesh import Context
from sqlmesh.core.console import set_console
from sqlmesh.utils.errors import SQLMeshError

from tcloud.scheduler import connection, context
from tcloud.scheduler.queries import Ask
from tcloud.scheduler.warehouse import remote_methods
from tempomesh_runner.console import RelayConsole
from tests.integration.runner.both import BothWays, both_ways, one_file
from tests.integration.runner.projects import SHOP, Project, change_totals, replace
from tests.integration.runner.sides import Driven, Side

AT = "2025-01-06 12:00:00"
DAYS: dict[str, Any] = {"start": "2025-01-02", "end": "2025-01-03", "execution_time": AT}
FILES = {
    **{
        name: SHOP.files[name]
        for name in (
            *("seeds/shops.csv", "models/shops.sql", "models/sales.sql", "models/latest.sql", "models/totals.sql"),
            *("models/best.sql", "models/weather.py"),
        )
    },
    # A model that nobody has planned reads it.
    "models/outside.sql": "MODEL (name shop.outside, kind VIEW); SELECT entry FROM warehouse.main.journal",
}
_NEW_STATE = "log_migration_status"
"""Said where a state is removed, and a server makes an empty one at once."""

ODD = """
    SELECT 1 AS a, 2.5::DECIMAL(9, 2) AS d, NULL AS n, 'x' AS a, DATE '2025-01-01' AS day, TIME '01:02:03' AS t,
      TIMESTAMPTZ '2025-01-01 00:00:00+00' AS at, 'ab'::BLOB AS b, [1, 2] AS l, {'k': 1} AS s,
      '550e8400-e29b-41d4-a716-446655440000'::UUID AS u, INTERVAL 3 HOUR AS i, 'nan'::DOUBLE AS f
"""


class Asking(context.RemoteContext):
    """A machine without a connection, whose state is at hand."""

    is_remote = True

    def __init__(self, side: Driven):
        super().__init__(paths=str(side.folder))
        refused = _no_connection
        unconnected = connection._unconnected(type(super().engine_adapter), refuse=refused, gateway="warehouse")
        self._engine_adapter = unconnected(refused, default_catalog="warehouse")


def _no_connection(*_: Any, **__: Any) -> Any:
    raise AssertionError("this machine has no connection")


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BothWays]:
    """The shop, planned, and changed in `dev`."""
    with both_ways(tmp_path, Project(FILES, SHOP.config), one_file, is_forgetful=False) as both:
        assert both.plan("prod", execution_time=AT) is None
        both.edit(change_totals)
        assert both.plan("dev", execution_time=AT) is None
        for module in (connection, context):
            monkeypatch.setattr(module, "ask_of", lambda *_: asking(both.driven))
        yield both


def asking(side: Driven, max_rows: int = 1000, max_bytes: int = 1_000_000) -> Ask:
    def ask(kind: Any, arguments: dict[str, Any]) -> dict[str, Any]:
        common = {"query_id": uuid4().hex, "gateway": "warehouse", "max_rows": max_rows, "max_bytes": max_bytes}
        answer: dict[str, Any] = side.call("answer_query", kind=kind, arguments=arguments, **common)["answer"]
        return answer

    return ask


def ask_both(both: BothWays, what: Callable[[Context], Any]) -> Any:
    """Does it both ways; fails unless results, errors and consoles are equal."""
    results: list[Any] = []
    told = []
    for side, made in ((both.builtin, Context(paths=str(both.builtin.folder))), (both.driven, Asking(both.driven))):
        side.take_events()
        set_console(RelayConsole(side.events.append))
        made.console = RelayConsole(side.events.append)
        with chdir(side.folder), closing(made):
            try:
                results.append(what(made))
            except SQLMeshError as error:
                results.append(str(error))
        told.append([line.replace(str(side.folder), "") for line in side.take_events() if _NEW_STATE not in line])
    assert told[1] == told[0]
    expected, actual = results
    if isinstance(expected, pd.DataFrame):
        # Without an order in its query, a warehouse has one of its own each time.
        pd.testing.assert_frame_equal(_sorted(actual), _sorted(expected))
    else:
        assert actual == expected
    return expected


def _sorted(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.sort_values(list(frame.columns), key=lambda column: column.map(repr)).reset_index(drop=True)


def evaluated(model: str, **how: Any) -> Callable[[Context], Any]:
    return lambda context: context.evaluate(model, **DAYS, **how)


def test_rows(both: BothWays) -> None:
    side = both.driven
    few = remote_methods(asking(side, max_rows=3))
    adapter = Asking(side).engine_adapter
    assert len(few["fetchdf"](adapter, "SELECT * FROM range(3)")) == 3
    for method in ("fetchdf", "fetchall"):
        with pytest.raises(SQLMeshError, match="more than 3 rows"):
            few[method](adapter, "SELECT * FROM range(4)")
        with pytest.raises(SQLMeshError, match="more than 3 rows"):
            few[method](adapter, "SELECT * FROM range(4) LIMIT 4")
    small = remote_methods(asking(side, max_bytes=300))
    with pytest.raises(SQLMeshError, match="bytes, more than the 300"):
        small["fetchdf"](adapter, "SELECT REPEAT('x', 300)")
    with pytest.raises(SQLMeshError, match=r"^Binder Error: .*nosuch") as failed:
        few["fetchdf"](adapter, "SELECT nosuch FROM shop.sales")
    assert "\n" not in str(failed.value)
    with pytest.raises(AssertionError, match="no connection"):
        adapter.execute("SELECT 1")

    assert len(ask_both(both, lambda c: c.fetchdf(ODD))) == 1
    assert len(ask_both(both, lambda c: c.fetchdf("SELECT * FROM shop.sales ORDER BY ALL"))) == 10
    assert ask_both(both, lambda c: c.engine_adapter.fetchone("SELECT 1, 'a'")) == (1, "a")
    assert ask_both(both, lambda c: c.engine_adapter.fetchone("SELECT 1 WHERE FALSE")) is None
    assert len(ask_both(both, lambda c: c.engine_adapter.fetchall("SELECT * FROM shop.shops ORDER BY 1"))) == 2
    assert ask_both(both, lambda c: c.engine_adapter.table_exists("shop.nosuch")) is False
    assert ask_both(both, lambda c: c.engine_adapter.columns("shop.sales"))
    for model in ("shop.totals", "shop.weather", "shop.shops", "shop.best", "shop.sales"):
        assert len(ask_both(both, evaluated(model, limit=2)))
    # What nobody has planned, on top of what nobody has planned.
    both.edit(lambda folder: replace(folder / "models/latest.sql", "MAX(ds)", "MIN(ds)"))
    both.edit(lambda folder: replace(folder / "models/shops.sql", "shop_id INT", "shop_id BIGINT"))
    both.edit(lambda folder: replace(folder / "seeds/shops.csv", "North", "West"))
    for model in ("shop.totals", "shop.best", "shop.shops"):
        assert len(ask_both(both, evaluated(model)))
    assert "nosuch" in ask_both(both, evaluated("shop.nosuch"))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_audits_differences_of_tables_and_files_that_are_written(both: BothWays) -> None:
    def diff(c: Context, source: str, target: str, **how: Any) -> Any:
        (found,) = c.table_diff(source, target, show=False, **how)
        rows = found.row_diff()
        frames = [getattr(rows, name).to_json() for name in ("sample", "joined_sample", "s_sample", "t_sample")]
        return found.schema_diff(), rows.stats, frames, rows.column_stats.to_json()

    assert ask_both(both, lambda c: c.audit(**DAYS)) is True
    assert ask_both(both, lambda c: c.audit(models=iter(["shop.sales"]), **DAYS)) is True
    assert ask_both(both, lambda c: c.audit("2024-01-01", "2024-01-02")) is False

    assert ask_both(both, lambda c: diff(c, "shop.totals", "shop__dev.totals", on=["shop_id"], skip_columns=["ds"]))
    both.edit(
        lambda folder: replace(folder / "models/totals.sql", "(name shop.totals,", "(name shop.totals, grain shop_id,")
    )
    selected: dict[str, Any] = {"select_models": ["shop.totals"], "where": "shop_id > 1", "limit": 1}
    assert ask_both(both, lambda c: diff(c, "prod", "dev", **selected))
    assert "how to join" in ask_both(both, lambda c: c.table_diff("shop.totals", "shop.sales"))
    ask_both(both, lambda c: c.create_external_models(strict=True))
    queries = {"shop.totals": "SELECT * FROM shop.totals"}
    ask_both(both, lambda c: c.create_test("shop.best", queries))
    written = [
        {file: (side.folder / file).read_text() for file in ("external_models.yaml", "tests/test_best.yaml")}
        for side in (both.builtin, both.driven)
    ]
    assert written[1] == written[0]
    assert "entry" in written[0]["external_models.yaml"]
    # The grain makes another snapshot of it.
    assert "has not been versioned yet" in ask_both(both, lambda c: c.audit(**DAYS))


def test_housekeeping(both: BothWays) -> None:
    ask_both(both, lambda c: c.invalidate_environment("dev", sync=True))
    ask_both(both, lambda c: c.run_janitor(ignore_ttl=True))
    both.assert_equal()
    assert not any("dev" in name for name in both.driven.outcome().relations)
    assert both.plan("dev", execution_time=AT) is None
    ask_both(both, lambda c: c.run_janitor(ignore_ttl=False, environment="dev"))
    ask_both(both, lambda c: c.destroy())
    assert list(both.driven.outcome().relations) == ["warehouse: warehouse.main.journal"]
    for side in (both.builtin, both.driven):
        _forget_caches(side)
    assert both.plan("prod", execution_time=AT) is None


def _forget_caches(side: Side) -> None:
    for folder in ("cache", ".cache"):
        shutil.rmtree(side.folder / folder, ignore_errors=True)
