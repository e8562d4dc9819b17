"""The weather of each day, as a Python model: in real life it would ask a service for it."""

import math
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
from sqlmesh import ExecutionContext, model
from sqlmesh.core.model import ModelKindName


@model(
    "bikes.weather",
    kind={"name": ModelKindName.INCREMENTAL_BY_TIME_RANGE, "time_column": "day"},
    cron="@daily",
    grain="day",
    columns={"day": "date", "temperature": "double precision", "is_rainy": "boolean"},
    column_descriptions={"temperature": "At noon, in degrees Celsius."},
)
def execute(
    context: ExecutionContext, start: datetime, end: datetime, execution_time: datetime, **kwargs: Any
) -> Iterator[pd.DataFrame]:
    days = [start.date() + timedelta(days=number) for number in range((end.date() - start.date()).days + 1)]
    rows = [
        {
            "day": day,
            "temperature": round(11 - 9 * math.cos(2 * math.pi * day.timetuple().tm_yday / 365), 1),
            "is_rainy": day.toordinal() % 3 == 0,
        }
        for day in days
    ]
    if rows:
        yield pd.DataFrame(rows)
