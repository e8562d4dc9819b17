"""Tables that a plan is about to replace: runs must not take them further while the plan catches up and promotes."""

import orjson
from sqlalchemy import select

from server.claims import hold_tables, let_go
from server.database import Transaction
from server.documents import DocumentKind, get_document
from server.errors import ApiError
from server.events import say_once
from server.parking import go_next
from server.schema import plans
from tcloud.wire.executions import OwnerKind
from tcloud.wire.statuses import Status

__all__ = ["hold_replaced_tables"]


def hold_replaced_tables(transaction: Transaction, plan_id: str, stage_index: int) -> list[str]:
    """Claims the tables that a promotion replaces, and says for whom it has to wait; repeating it is harmless.

    What is free is held at once, so that nobody begins there any more. Of the rest, if the plan waits for it, the plan
    is the next in line, and has it once it has asked again after those who have it are done. Two plans that each hold
    what the other wants (environments that share tables) cannot wait for each other: the one that finds it so lets go
    of everything, and asks again.

    Raises:
        ApiError: 404 if there is no such stage, 409 if the plan is over.
    """
    stage = orjson.loads(get_document(transaction, DocumentKind.STAGE, f"{plan_id}.{stage_index}"))
    catch_up = stage.get("catch_up") or {}
    tables = [(table["name"], table["version"] or "") for table in catch_up.get("replaced", ())]
    _require_in_progress(transaction, plan_id)
    others = hold_tables(transaction, OwnerKind.PLAN, plan_id, tables) if tables else []
    if not catch_up.get("waits"):
        return []
    if any(other.is_held for other in others):
        let_go(transaction, plan_id)
    for model, version in sorted({(other.model, other.version) for other in others}):
        go_next(transaction, plan_id, model, version)
    waiting_for = sorted({f"{other.owner_kind} {other.owner_id}" for other in others})
    if waiting_for:
        say_once(
            transaction,
            plan_id,
            f"Waiting for {', '.join(waiting_for)} to finish with tables that this plan replaces...",
        )
    return waiting_for


def _require_in_progress(transaction: Transaction, plan_id: str) -> None:
    # Locked: a plan that ends at this moment has let go of all it held, and would hold this for ever.
    status = transaction.connection.execute(
        select(plans.c.status)
        .where(plans.c.project == transaction.project.namespace, plans.c.plan_id == plan_id)
        .with_for_update()
    ).scalar()
    if status is None or Status(status).is_final:
        raise ApiError(409, "TM-OVER", f"Plan '{plan_id}' is over ({status}): it holds no tables any more.")
