"""Listings: a table for people, JSON for scripts."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

import click
from pydantic import BaseModel

__all__ = ["Format", "as_json", "cell", "output_option", "print_table", "show", "show_many"]

_UNLIMITED = 10_000
Command = TypeVar("Command", bound=Callable[..., Any])


class Format(StrEnum):
    """How a listing is printed."""

    TABLE = "table"
    JSON = "json"


def output_option(command: Command) -> Command:
    """Gives a command `-o`, as the parameter `output`."""
    option = click.option(
        "-o",
        "--output",
        type=click.Choice([form.value for form in Format]),
        default=Format.TABLE.value,
        callback=lambda _context, _parameter, value: Format(value),
        help="How to print it.",
    )
    decorated: Command = option(command)
    return decorated


def as_json(model: BaseModel, fields: Sequence[str]) -> dict[str, Any]:
    """The fields of the command line's contract, in its order; times are ISO 8601 in UTC."""
    return {field: _json_value(getattr(model, field)) for field in fields}


def show_many(models: Sequence[BaseModel], fields: Sequence[str], columns: Sequence[str], output: Format) -> None:
    """Prints a listing.

    Args:
        models: What to list.
        fields: The fields of the JSON form.
        columns: Those of them that fit into a table.
        output: Which of the two.
    """
    if output is Format.JSON:
        click.echo(json.dumps([as_json(model, fields) for model in models], indent=2))
        return
    print_table(columns, [[cell(getattr(model, column)) for column in columns] for model in models])


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints rows below the names of their columns; as wide as the terminal, or as it takes if there is none."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        # Texts: what a model says is no markup.
        table.add_row(*map(Text, row))
    console = Console()
    if not console.is_terminal:
        # Somebody's `grep` wants whole lines.
        console.width = _UNLIMITED
    console.print(table)


def show(document: dict[str, Any], output: Format) -> None:
    """Prints one thing with all its fields, given in their JSON form."""
    if output is Format.JSON:
        click.echo(json.dumps(document, indent=2))
        return
    width = max(len(field) for field in document)
    for field, value in document.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            click.echo(f"{field}:")
            for item in value:
                click.echo("  " + "  ".join(f"{name}={cell(v)}" for name, v in item.items() if v not in (None, [])))
        else:
            click.echo(f"{field.ljust(width)}  {cell(value)}")


def _json_value(value: Any) -> Any:
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case list():
            return [_json_value(item) for item in value]
        case BaseModel():
            return {field: _json_value(getattr(value, field)) for field in type(value).model_fields}
        case _:
            return value


def cell(value: Any) -> str:
    """A value as a table shows it."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        case list():
            return ", ".join(cell(item) for item in value) or "-"
        case _:
            return str(value)
