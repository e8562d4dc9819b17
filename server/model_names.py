"""From a model's name as people write it to the fully qualified ones that records have."""

from sqlalchemy import select
from sqlglot.errors import SqlglotError
from sqlmesh.core.dialect import normalize_model_name

from server.database import Transaction
from server.errors import ApiError
from server.executors import known_gateways
from server.schema import evaluations, plans

__all__ = ["fully_qualified", "recorded"]


def fully_qualified(transaction: Transaction, name: str) -> list[str]:
    """What a name may mean: as SQLMesh normalizes it, in the dialects and default catalogs of the project's gateways.

    Args:
        transaction: An open transaction.
        name: `schema.model`, `catalog.schema.model`, or the fully qualified name itself.

    Raises:
        ApiError: 422 if it is no name of a model.
    """
    planned_with = transaction.connection.execute(
        select(plans.c.default_catalog).where(plans.c.project == transaction.project.namespace).distinct()
    ).scalars()
    gateways = known_gateways(transaction)
    catalogs = {None, *planned_with, *(gateway.default_catalog for gateway in gateways)}
    dialects = {None, *(gateway.dialect for gateway in gateways)}
    try:
        return sorted(
            {
                normalize_model_name(name, default_catalog=catalog, dialect=dialect)
                for catalog in catalogs
                for dialect in dialects
            }
        )
    except (SqlglotError, ValueError) as error:
        raise ApiError(422, "TM-REQUEST", f"'{name}' is not the name of a model, as in `schema.model`.") from error


def recorded(transaction: Transaction, names: list[str]) -> list[str]:
    """Those of the names that have evaluations: mostly one, and with one an index gives them in their order."""

    def has_evaluations(name: str) -> bool:
        query = select(evaluations.c.model).where(
            evaluations.c.project == transaction.project.namespace, evaluations.c.model == name
        )
        return transaction.connection.execute(query.limit(1)).first() is not None

    return [name for name in names if has_evaluations(name)]
