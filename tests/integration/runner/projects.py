"""A small project with a model of most kinds, on DuckDB, and the changes that are made to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

__all__ = ["Project", "SHOP", "change_forward_only", "change_totals", "replace"]


@dataclass(frozen=True)
class Project:
    """Files of a project, and its configuration, less gateways."""

    files: Mapping[str, str]
    config: Mapping[str, Any]

    def write(self, folder: Path, connections: Mapping[str, Mapping[str, Any]]) -> None:
        """Writes the project into a folder that also gets its state.

        Args:
            folder: The folder.
            connections: By the gateway's name; the first is the default one.
        """
        gateways = {name: {"connection": dict(connection)} for name, connection in connections.items()}
        default = next(iter(gateways))
        gateways[default]["state_connection"] = {"type": "duckdb", "database": str(folder / "state.duckdb")}
        config = {
            "gateways": gateways,
            "default_gateway": default,
            "disable_anonymized_analytics": True,
            **self.config,
        }
        for name, text in {**self.files, "config.yaml": yaml.safe_dump(config)}.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


CONFIG = {
    "model_defaults": {"dialect": "duckdb", "start": "2025-01-01"},
    "before_all": ["CREATE TABLE IF NOT EXISTS warehouse.main.journal (entry TEXT)"],
    "after_all": ["INSERT INTO warehouse.main.journal VALUES ('done with ' || @this_env)"],
}

FILES = {
    "seeds/shops.csv": "shop_id,name\n1,North\n2,South\n",
    "models/shops.sql": """
        MODEL (name shop.shops, kind SEED (path '../seeds/shops.csv'), columns (shop_id INT, name TEXT),
          audits (unique_values(columns := (shop_id))));
    """,
    "models/sales.sql": """
        MODEL (name shop.sales, kind INCREMENTAL_BY_TIME_RANGE (time_column ds, batch_size 2, lookback 1),
          cron '@daily', audits (number_of_rows(threshold := 1, blocking := false), not_null(columns := (amount))));
        SELECT s.shop_id, d::DATE AS ds, s.shop_id * EXTRACT(DAY FROM d)::INT AS amount
        FROM shop.shops AS s, UNNEST(GENERATE_SERIES(@start_dt::TIMESTAMP, @end_dt::TIMESTAMP, INTERVAL 1 DAY)) AS t(d)
        WHERE d::DATE BETWEEN @start_ds AND @end_ds
    """,
    "models/latest.sql": """
        MODEL (name shop.latest, kind EMBEDDED);
        SELECT shop_id, MAX(ds) AS ds FROM shop.sales GROUP BY shop_id
    """,
    "models/totals.sql": """
        MODEL (name shop.totals, kind FULL, cron '@daily');
        SELECT s.shop_id, SUM(s.amount)::INT AS amount, MAX(l.ds) AS ds
        FROM shop.sales AS s JOIN shop.latest AS l ON s.shop_id = l.shop_id GROUP BY s.shop_id
    """,
    "models/best.sql": """
        MODEL (name shop.best, kind VIEW, cron '@daily');
        SELECT shop_id FROM shop.totals ORDER BY amount DESC LIMIT 1
    """,
    "models/by_shop.sql": """
        MODEL (name shop.by_shop, kind INCREMENTAL_BY_UNIQUE_KEY (unique_key shop_id), cron '@daily');
        SELECT shop_id, MAX(ds) AS ds FROM shop.sales WHERE ds BETWEEN @start_ds AND @end_ds GROUP BY shop_id
    """,
    "models/history.sql": """
        MODEL (name shop.history, kind SCD_TYPE_2_BY_COLUMN (unique_key shop_id, columns [amount]), cron '@daily');
        SELECT shop_id, amount FROM shop.totals
    """,
    "models/restated.sql": """
        MODEL (name shop.restated, kind INCREMENTAL_BY_TIME_RANGE (time_column ds, auto_restatement_cron '@weekly',
          auto_restatement_intervals 2), cron '@daily');
        SELECT ds, SUM(amount)::INT AS amount FROM shop.sales WHERE ds BETWEEN @start_ds AND @end_ds GROUP BY ds
    """,
    "models/after_restated.sql": """
        MODEL (name shop.after_restated, kind INCREMENTAL_BY_TIME_RANGE (time_column ds), cron '@daily');
        SELECT ds, amount FROM shop.restated WHERE ds BETWEEN @start_ds AND @end_ds
    """,
    "models/checked.sql": """
        MODEL (name shop.checked, kind FULL, cron '@daily', audits (early_enough));
        SELECT @execution_ds::DATE AS ds;
    """,
    "models/after_checked.sql": """
        MODEL (name shop.after_checked, kind FULL, cron '@daily');
        SELECT ds FROM shop.checked
    """,
    "models/fragile.sql": """
        MODEL (name shop.fragile, kind FULL, cron '@daily');
        SELECT CASE WHEN @execution_ds >= '2025-01-10' THEN ERROR('too late') END::INT AS answer
    """,
    "audits/early_enough.sql": """
        AUDIT (name early_enough);
        SELECT * FROM @this_model WHERE ds >= '2025-01-10'
    """,
    "models/weather.py": """
import typing as t

import pandas as pd
from sqlmesh import ExecutionContext, model


@model("shop.weather", kind="FULL", cron="@daily", columns={"shop_id": "int", "is_wet": "boolean"})
def execute(context: ExecutionContext, **kwargs: t.Any) -> pd.DataFrame:
    shops = context.fetchdf(f"SELECT shop_id FROM {context.resolve_table('shop.shops')} ORDER BY shop_id")
    return pd.DataFrame({"shop_id": shops["shop_id"], "is_wet": shops["shop_id"] % 2 == 0})
""",
    "signals/__init__.py": "",
    "signals/until.py": """
import datetime

from sqlmesh import DatetimeRanges, signal


@signal()
def until(batch: DatetimeRanges, day: int) -> DatetimeRanges:
    return [(start, end) for start, end in batch if end <= datetime.datetime(2025, 1, day, tzinfo=datetime.UTC)]
""",
    "models/signalled.sql": """
        MODEL (name shop.signalled, kind INCREMENTAL_BY_TIME_RANGE (time_column ds), cron '@daily',
          signals (until(day := 6)));
        SELECT ds, COUNT(*) AS sales FROM shop.sales WHERE ds BETWEEN @start_ds AND @end_ds GROUP BY ds
    """,
}


SHOP = Project(FILES, CONFIG)


def change_totals(folder: Path) -> None:
    """A breaking change of a model that others read."""
    replace(folder / "models/totals.sql", "SUM(s.amount)", "2 * SUM(s.amount)")


def change_forward_only(folder: Path) -> None:
    """A new column of an incremental model, to be planned forward-only."""
    replace(folder / "models/by_shop.sql", "MAX(ds) AS ds FROM", "MAX(ds) AS ds, COUNT(*) AS days FROM")


def replace(path: Path, old: str, new: str) -> None:
    """Changes a file; fails if there is nothing to change."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
