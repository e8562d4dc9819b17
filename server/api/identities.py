"""Clients and accounts of the server: for its administrators, through the path of any project they administer."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from server.access import Access, require
from server.accounts import (
    AccountError,
    create_account,
    create_client,
    delete_identity,
    identity_records,
    new_one_time_password,
    rotate_secret,
    set_disabled,
    set_password,
)
from server.api.answers import problems
from server.audit_log import add_entry
from server.errors import ApiError
from server.grants import give_role
from server.identities import IdentityKind
from tcloud.wire.grants import Action, Role
from tcloud.wire.identities import IdentityRecord, IdentityRequest, Revealed

__all__ = ["router"]

Result = TypeVar("Result")
router = APIRouter(tags=["identities"])
_REFUSED = problems(s409="The name is taken, or nobody else administers the server (`TM-IDENTITY`).")


def _administrator(doing: str | None = None) -> Any:
    """A dependency that lets in administrators of the server; `doing` is what the audit log calls it."""

    def check(access: Annotated[Access, Depends(require(Action.MANAGE, doing=doing))]) -> Access:
        if not access.is_server_administrator:
            raise access.not_theirs(
                f"they administer project '{access.project.namespace}', not the server, and identities belong to all "
                "of its projects"
            )
        return access

    return Depends(check)


Reader = Annotated[Access, _administrator()]


@router.get("/clients", summary="Services that may sign in")
def clients(access: Reader) -> list[IdentityRecord]:
    with access.database.engine.connect() as connection:
        return identity_records(connection, IdentityKind.SERVICE)


@router.post("/clients", summary="Make a client; its secret is told once", responses=_REFUSED, status_code=201)
def create_a_client(access: Annotated[Access, _administrator("client.create")], request: IdentityRequest) -> Revealed:
    return _created(access, request, create_client)


@router.post("/clients/{identity_id}/rotate", summary="Give a client a new secret", responses=_REFUSED)
def rotate_a_secret(access: Annotated[Access, _administrator("client.rotate")], identity_id: str) -> Revealed:
    secret = _change(access, identity_id, lambda connection: rotate_secret(connection, identity_id))
    return Revealed.model_validate({"identity_id": identity_id, "secret": secret})


@router.delete("/clients/{identity_id}", summary="Delete a client", responses=_REFUSED, status_code=204)
def delete_a_client(access: Annotated[Access, _administrator("client.delete")], identity_id: str) -> None:
    _change(
        access,
        identity_id,
        lambda connection: delete_identity(connection, identity_id, IdentityKind.SERVICE),
    )


@router.get("/accounts", summary="People who may sign in")
def accounts(access: Reader) -> list[IdentityRecord]:
    with access.database.engine.connect() as connection:
        return identity_records(connection, IdentityKind.PERSON)


@router.post(
    "/accounts", summary="Make a person's account; a password for once is told", responses=_REFUSED, status_code=201
)
def create_an_account(
    access: Annotated[Access, _administrator("account.create")], request: IdentityRequest
) -> Revealed:
    return _created(access, request, create_account)


@router.post("/accounts/{identity_id}/reset-password", summary="Give a person a password for once", responses=_REFUSED)
def reset_a_password(access: Annotated[Access, _administrator("account.reset-password")], identity_id: str) -> Revealed:
    password = new_one_time_password()
    _change(
        access,
        identity_id,
        lambda connection: set_password(connection, identity_id, password, is_one_time=True),
    )
    return Revealed.model_validate({"identity_id": identity_id, "secret": password})


@router.post("/accounts/{identity_id}/disable", summary="Shut a person out", responses=_REFUSED, status_code=204)
def disable_an_account(access: Annotated[Access, _administrator("account.disable")], identity_id: str) -> None:
    _set_disabled(access, identity_id, is_disabled=True)


@router.post("/accounts/{identity_id}/enable", summary="Let a person in again", responses=_REFUSED, status_code=204)
def enable_an_account(access: Annotated[Access, _administrator("account.enable")], identity_id: str) -> None:
    _set_disabled(access, identity_id, is_disabled=False)


@router.delete("/accounts/{identity_id}", summary="Delete a person's account", responses=_REFUSED, status_code=204)
def delete_an_account(access: Annotated[Access, _administrator("account.delete")], identity_id: str) -> None:
    _change(
        access,
        identity_id,
        lambda connection: delete_identity(connection, identity_id, IdentityKind.PERSON),
    )


def _set_disabled(access: Access, identity_id: str, *, is_disabled: bool) -> None:
    _change(
        access,
        identity_id,
        lambda connection: set_disabled(connection, identity_id, IdentityKind.PERSON, is_disabled=is_disabled),
    )


def _created(access: Access, request: IdentityRequest, create: Callable[..., str]) -> Revealed:
    if request.role is not None and request.role not in set(Role):
        raise ApiError(422, "TM-REQUEST", f"role: '{request.role}' is none of {', '.join(Role)}")

    def make(connection: Connection) -> str:
        secret = create(
            connection,
            request.identity_id,
            access.identity_id,
            display_name=request.display_name,
            is_administrator=request.is_administrator,
        )
        if request.role is not None:
            give_role(connection, access.project, request.identity_id, Role(request.role), access.identity_id)
        return secret

    details = {"role": request.role, "is_administrator": request.is_administrator}
    secret = _change(access, request.identity_id, make, details)
    return Revealed.model_validate({"identity_id": request.identity_id, "secret": secret})


def _change(
    access: Access,
    identity_id: str,
    change: Callable[[Connection], Result],
    details: Mapping[str, object] | None = None,
) -> Result:
    try:
        with access.database.transaction(access.project) as transaction:
            result = change(transaction.connection)
            add_entry(transaction, access.identity_id, access.doing, identity_id, details)
            return result
    except AccountError as error:
        raise ApiError(404 if error.is_missing else 409, "TM-IDENTITY", str(error)) from error
    except IntegrityError as error:
        raise ApiError(409, "TM-IDENTITY", f"There is a '{identity_id}' already.") from error
