"""Rows of a warehouse as JSON, and back to the very values and data frames that SQLMesh would have given."""

import math
import typing as t
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

import numpy as np
import pandas as pd

__all__ = ["frame_as_json", "frame_from_json", "value_as_json", "value_from_json"]

_READ: dict[str, t.Callable[[t.Any], t.Any]] = {
    "$float": float,
    "$nat": lambda _: pd.NaT,
    "$na": lambda _: pd.NA,
    "$timestamp": pd.Timestamp,
    "$datetime": datetime.fromisoformat,
    "$date": date.fromisoformat,
    "$time": time.fromisoformat,
    "$timedelta": lambda parts: timedelta(*parts),
    "$decimal": Decimal,
    "$uuid": UUID,
    "$bytes": bytes.fromhex,
    "$tuple": lambda items: tuple(value_from_json(item) for item in items),
    "$dict": lambda items: {value_from_json(key): value_from_json(value) for key, value in items},
}


def value_as_json(value: t.Any) -> t.Any:
    """A value of a row; what JSON has no word for gets a tag, and what nobody knows is told as text."""
    if value is pd.NaT:
        return {"$nat": None}
    if value is pd.NA:
        return {"$na": None}
    match value:
        case np.generic():
            return value_as_json(value.item())
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else {"$float": str(value)}
        case pd.Timestamp():
            return {"$timestamp": value.isoformat()}
        case datetime():
            return {"$datetime": value.isoformat()}
        case date():
            return {"$date": value.isoformat()}
        case time():
            return {"$time": value.isoformat()}
        case timedelta():
            return {"$timedelta": [value.days, value.seconds, value.microseconds]}
        case Decimal():
            return {"$decimal": str(value)}
        case UUID():
            return {"$uuid": str(value)}
        case bytes() | bytearray() | memoryview():
            return {"$bytes": bytes(value).hex()}
        case tuple():
            return {"$tuple": [value_as_json(item) for item in value]}
        case list() | np.ndarray():
            return [value_as_json(item) for item in value]
        case dict():
            return {"$dict": [[value_as_json(key), value_as_json(item)] for key, item in value.items()]}
    return str(value)


def value_from_json(value: t.Any) -> t.Any:
    """The inverse of `value_as_json`."""
    if isinstance(value, list):
        return [value_from_json(item) for item in value]
    if isinstance(value, dict):
        ((tag, content),) = value.items()
        return _READ[tag](content)
    return value


def frame_as_json(frame: pd.DataFrame) -> dict[str, t.Any]:
    """A data frame, column by column, with the types of its columns."""
    columns = [frame.iloc[:, position] for position in range(frame.shape[1])]
    return {
        "columns": [value_as_json(name) for name in frame.columns],
        "types": [str(column.dtype) for column in columns],
        "values": [[value_as_json(value) for value in column.array] for column in columns],
        "index": None if isinstance(frame.index, pd.RangeIndex) else [value_as_json(value) for value in frame.index],
        "rows": len(frame),
    }


def frame_from_json(document: dict[str, t.Any]) -> pd.DataFrame:
    """The inverse of `frame_as_json`."""
    index = document["index"]
    labels = pd.RangeIndex(document["rows"]) if index is None else pd.Index([value_from_json(label) for label in index])
    columns = [
        _typed(pd.Series([value_from_json(value) for value in values], index=labels, dtype=object), kind)
        for values, kind in zip(document["values"], document["types"], strict=True)
    ]
    # By position: a query may give two columns one name.
    frame = pd.DataFrame(dict(enumerate(columns)), index=labels)
    frame.columns = pd.Index([value_from_json(name) for name in document["columns"]])
    return frame


def _typed(column: "pd.Series[t.Any]", kind: str) -> "pd.Series[t.Any]":
    try:
        return column.astype(kind)  # type: ignore[call-overload, no-any-return]
    except (TypeError, ValueError):
        # A type of the engine's own, which may not be installed here: the values are right all the same.
        return column
