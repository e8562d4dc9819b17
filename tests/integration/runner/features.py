"""A project with what few have: statements around everything, standalone audits, a materialization of its own."""

from tests.integration.runner.projects import Project

__all__ = ["FEATURES", "PACKAGE", "SEED_ROWS"]

SEED_ROWS = 100_000

FILES = {
    "seeds/readings.csv": "reading_id,shop_id\n" + "".join(f"{n},{n % 7}\n" for n in range(SEED_ROWS)),
    "models/readings.sql": """
        MODEL (name lab.readings, kind SEED (path '../seeds/readings.csv'), columns (reading_id INT, shop_id INT));
    """,
    "external_models.yaml": """
- name: outside.weather
  columns: {shop_id: int, ds: date}
  start: 2025-01-01
  audits:
    - name: not_null
      columns: "[shop_id]"
""",
    "macros/__init__.py": "",
    "macros/notes.py": """
from sqlmesh import macro


@macro()
def note(evaluator, what):
    views = ", ".join(sorted(evaluator.views)) if evaluator.runtime_stage == "after_all" else ""
    said = f"{what.name} {evaluator.runtime_stage} {evaluator.this_env} {evaluator.locals['start_ds']} {views}"
    return f"INSERT INTO outside.journal VALUES ('{said}')"


@macro()
def doubled(evaluator, column):
    return f"2 * {column.sql()}"
""",
    "models/by_day.sql": """
        MODEL (name lab.by_day, kind INCREMENTAL_BY_TIME_RANGE (time_column ds, batch_size 1, batch_concurrency 2),
          cron '@daily', start '2025-01-02', signals (on_some_days(days := [2, 3, 5, 6]), always()));
        INSERT INTO outside.journal VALUES ('before by_day');
        SELECT d::DATE AS ds, @doubled(EXTRACT(DAY FROM d))::INT AS amount
        FROM UNNEST(GENERATE_SERIES(@start_dt::TIMESTAMP, @end_dt::TIMESTAMP, INTERVAL 1 DAY)) AS t(d)
        WHERE d::DATE BETWEEN @start_ds AND @end_ds;
        INSERT INTO outside.journal VALUES ('after by_day ' || @start_ds);
        ON_VIRTUAL_UPDATE_BEGIN;
        INSERT INTO outside.journal VALUES ('promoted');
        ON_VIRTUAL_UPDATE_END;
    """,
    "signals/__init__.py": "",
    "signals/days.py": """
from sqlmesh import DatetimeRanges, ExecutionContext, signal


@signal()
def on_some_days(batch: DatetimeRanges, days: list[int], context: ExecutionContext) -> DatetimeRanges:
    assert context.engine_adapter.fetchone("SELECT 1") == (1,)
    return [(start, end) for start, end in batch if start.day in days or start.day > 7]


@signal()
def always(batch: DatetimeRanges) -> bool:
    return True
""",
    "models/by_shop.sql": """
        MODEL (name lab.by_shop, kind INCREMENTAL_BY_PARTITION, partitioned_by [shop_id], cron '@daily');
        SELECT shop_id, COUNT(*)::INT AS readings, @execution_ds AS seen FROM lab.readings GROUP BY shop_id
    """,
    "models/appended.sql": """
        MODEL (name lab.appended, kind INCREMENTAL_UNMANAGED, cron '@daily');
        SELECT MAX(ds) AS ds, @execution_ds AS seen FROM lab.by_day
    """,
    "models/running.sql": """
        MODEL (name lab.running, kind INCREMENTAL_BY_TIME_RANGE (time_column ds, batch_size 2, forward_only TRUE),
          cron '@daily', columns (ds DATE, days INT));
        SELECT d::DATE AS ds, (1 + (SELECT COUNT(*) FROM lab.running))::INT AS days
        FROM UNNEST(GENERATE_SERIES(@start_dt::TIMESTAMP, @end_dt::TIMESTAMP, INTERVAL 1 DAY)) AS t(d)
        WHERE d::DATE BETWEEN @start_ds AND @end_ds
    """,
    "models/versions.sql": """
        MODEL (name lab.versions, kind SCD_TYPE_2_BY_TIME (unique_key shop_id, updated_at_name seen,
          invalidate_hard_deletes TRUE), cron '@daily');
        SELECT shop_id, readings, @execution_ts::TIMESTAMP AS seen FROM lab.by_shop
        WHERE shop_id <> DAY(@execution_ds::DATE)
    """,
    "models/minutes.sql": """
        MODEL (name lab.minutes, kind INCREMENTAL_BY_TIME_RANGE (time_column at, lookback 1), cron '@hourly',
          interval_unit five_minute, allow_partials TRUE, start '2025-01-06 11:00:00');
        SELECT t.d::TIMESTAMP AS at, @execution_ts AS seen
        FROM UNNEST(GENERATE_SERIES(@start_dt::TIMESTAMP, @end_dt::TIMESTAMP, INTERVAL 5 MINUTE)) AS t(d)
        WHERE t.d::TIMESTAMP BETWEEN @start_ts::TIMESTAMP AND @end_ts::TIMESTAMP
    """,
    "models/partial.sql": """
        MODEL (name lab.partial, kind FULL, cron '@daily', interval_unit five_minute, allow_partials TRUE);
        SELECT COUNT(*)::INT AS minutes, @execution_ts AS seen FROM lab.minutes
    """,
    "models/twice.sql": """
        MODEL (name lab.twice, kind CUSTOM (materialization 'twice', materialization_properties (times = 2)),
          cron '@daily');
        SELECT @execution_ds AS seen, MAX(shop_id) AS shop_id FROM lab.by_shop
    """,
    "models/frames.py": """
import typing as t

import pandas as pd
from sqlmesh import ExecutionContext, model
from sqlmesh.core.model import ModelKindName


@model(
    "lab.frames_@{part}",
    kind={"name": ModelKindName.INCREMENTAL_BY_TIME_RANGE, "time_column": "ds"},
    cron="@daily",
    blueprints=[{"part": "a"}, {"part": "b"}],
    columns={"part": "text", "ds": "date", "amount": "int"},
    depends_on={"lab.by_day"},
)
def execute(context: ExecutionContext, start: t.Any, end: t.Any, **kwargs: t.Any) -> t.Iterator[pd.DataFrame]:
    table = context.resolve_table("lab.by_day")
    frame = context.fetchdf(f"SELECT ds, amount FROM {table} WHERE ds BETWEEN '{start.date()}' AND '{end.date()}'")
    for _, rows in frame.groupby("ds"):
        yield rows.assign(part=context.blueprint_var("part"))[["part", "ds", "amount"]]
""",
    "models/jinja.sql": """
        MODEL (name lab.jinja, kind VIEW, cron '@daily', audits (assert_recent));
        JINJA_QUERY_BEGIN;
        SELECT {{ column() }} AS ds FROM lab.by_day
        JINJA_END;
    """,
    "macros/columns.sql": "{% macro column() %}MAX(ds){% endmacro %}",
    "audits/assert_recent.sql": """
        AUDIT (name assert_recent, blocking FALSE);
        SELECT * FROM @this_model WHERE ds < '2025-01-07'
    """,
    "models/weather.sql": """
        MODEL (name lab.weather, kind FULL, cron '@daily', audits (forall(criteria := (days < 100))));
        SELECT COUNT(*)::INT AS days FROM outside.weather
    """,
    "models/after_weather.sql": """
        MODEL (name lab.after_weather, kind FULL, cron '@daily');
        SELECT days FROM lab.weather
    """,
    "audits/few_days.sql": """
        AUDIT (name few_days, standalone TRUE, cron '@daily');
        SELECT * FROM lab.weather WHERE days > 4
    """,
    "audits/enough_days.sql": """
        AUDIT (name enough_days, standalone TRUE, cron '@daily');
        SELECT * FROM lab.by_day AS d JOIN lab.weather AS w ON w.days < 0
    """,
}

PACKAGE = {
    "twice_materialization.py": """
import typing as t

from sqlmesh import CustomMaterialization, Model


class TwiceMaterialization(CustomMaterialization):
    NAME = "twice"

    def insert(
        self,
        table_name: str,
        query_or_df: t.Any,
        model: Model,
        is_first_insert: bool,
        render_kwargs: dict[str, t.Any],
        **kwargs: t.Any,
    ) -> None:
        if is_first_insert:
            self._replace_query_for_model(model, table_name, query_or_df, render_kwargs, **kwargs)
        for _ in range(int(str(model.custom_materialization_properties["times"]))):
            self.adapter.insert_append(table_name, query_or_df, target_columns_to_types=model.columns_to_types)
""",
    "twice-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: twice\nVersion: 1.0\n",
    "twice-1.0.dist-info/entry_points.txt": """
[sqlmesh.materializations]
twice = twice_materialization:TwiceMaterialization
""",
}
"""An installed package with a materialization, as it lies in a folder of the interpreter's path."""

CONFIG = {
    "model_defaults": {"dialect": "duckdb", "start": "2025-01-01"},
    "environment_suffix_target": "table",
    "before_all": [
        "CREATE SCHEMA IF NOT EXISTS outside",
        "CREATE TABLE IF NOT EXISTS outside.journal (entry TEXT)",
        "CREATE TABLE IF NOT EXISTS outside.weather (shop_id INT, ds DATE)",
        "@IF(@this_env = 'prod', INSERT INTO outside.weather VALUES (1, @execution_ds::DATE))",
        "@note(begin)",
    ],
    "after_all": ["@note(done)", "@IF(@this_env = 'prod', INSERT INTO outside.journal VALUES ('only prod'))"],
}

FEATURES = Project(FILES, CONFIG)
