"""The pages that people see: sign in, let a program or a device in, change a password, sign out."""

from typing import Any
from urllib.parse import quote

import structlog
from authlib.oauth2 import OAuth2Error
from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import Connection, select
from starlette.responses import RedirectResponse, Response

from server.access import open_to_all
from server.accounts import set_password
from server.schema import identities
from server.signin.attempts import TooManyAttemptsError
from server.signin.authorization import Authorization, Parameters
from server.signin.browser import begin_session, check_form, end_session, person_of
from server.signin.devices import answer_device, waiting_device
from server.signin.issuing import Person, find_person
from server.signin.passwords import LONGEST_PASSWORD, SHORTEST_PASSWORD, is_password, password_problem
from server.signin.rendering import page
from server.signin.returning import OVERVIEW, safe_return
from server.signin.service import SignIn, address_of, parameters_of, sign_in_of

__all__ = ["router"]

router = APIRouter(include_in_schema=False, dependencies=[Depends(open_to_all)])
_log = structlog.get_logger(__name__)
_WRONG = "Name or password is wrong."
_SEE_OTHER = 303


@router.get("/auth")
async def ask_consent(request: Request) -> Response:
    """The authorization endpoint: a program on a person's machine asks for a code."""
    return await run_in_threadpool(_authorize, request, None)


@router.post("/auth")
async def answer_consent(request: Request) -> Response:
    """What the person says to that."""
    return await run_in_threadpool(_authorize, request, dict(await parameters_of(request)))


@router.get("/auth/login")
async def show_login(request: Request, return_to: str = OVERVIEW, name: str = "") -> Response:
    """The page where a person signs in."""
    return _login_page(request, return_to, name[:LONGEST_PASSWORD])


@router.post("/auth/login")
async def login(request: Request) -> Response:
    """Signs a person in by their password."""
    return await run_in_threadpool(_login, request, dict(await parameters_of(request)))


@router.get("/auth/account")
async def account(request: Request) -> Response:
    """Who is signed in, and what they may do about it."""
    return await run_in_threadpool(_account, request)


@router.post("/auth/logout")
async def logout(request: Request) -> Response:
    """Signs the browser out."""
    return await run_in_threadpool(_logout, request, dict(await parameters_of(request)))


@router.get("/auth/password")
async def show_password(request: Request, return_to: str = OVERVIEW) -> Response:
    """The page where a person changes their password."""
    return await run_in_threadpool(_password_page, request, return_to)


@router.post("/auth/password")
async def password(request: Request) -> Response:
    """Changes a password."""
    return await run_in_threadpool(_change_password, request, dict(await parameters_of(request)))


@router.get("/auth/device")
async def show_device(request: Request, user_code: str = "") -> Response:
    """The page where a person lets a device in."""
    return await run_in_threadpool(_device_page, request, user_code)


@router.post("/auth/device/answer")
async def device_answer(request: Request) -> Response:
    """What the person says to a device."""
    return await run_in_threadpool(_answer_device, request, dict(await parameters_of(request)))


def _authorize(request: Request, form: dict[str, str] | None) -> Response:
    sign_in = sign_in_of(request)
    sent = Parameters(request.method, request.url.path, request.headers, request.query_params.multi_items())
    with sign_in.database.engine.begin() as connection:
        server = Authorization(connection, sign_in.issuer)
        person = person_of(sign_in, connection, request)
        try:
            grant = server.get_consent_grant(sent, person)
        except OAuth2Error as error:
            if error.redirect_uri:
                refusal: Response = server.handle_error_response(sent, error)
                return refusal
            text = f"The program that sent you here did not ask as it should: {error.description or error.error}"
            return page(sign_in, request, "message", status=400, title="This does not work", text=text)
        if person is None or person.password_is_one_time:
            return _first(person, request)
        if form is None:
            return page(
                sign_in, request, "consent", person=_name(person), scope=grant.request.scope, query=request.url.query
            )
        check_form(sign_in, request, form)
        if form.get("answer") == "other":
            response = _to_login(request)
            end_session(sign_in, connection, request, response)
            return response
        is_allowed = form.get("answer") == "yes"
        answer: Response = server.create_authorization_response(sent, person if is_allowed else None, grant)
        return answer


def _login_page(request: Request, return_to: str, name: str, problem: str | None = None, status: int = 200) -> Response:
    sign_in = sign_in_of(request)
    provider = sign_in.settings.provider
    return page(
        sign_in,
        request,
        "login",
        status=status,
        return_to=safe_return(return_to),
        name=name,
        problem=problem,
        has_accounts=sign_in.settings.local_accounts,
        provider=provider.name if provider else None,
    )


def _login(request: Request, form: dict[str, str]) -> Response:
    sign_in = sign_in_of(request)
    check_form(sign_in, request, form)
    name, return_to = form.get("name", "").strip()[:LONGEST_PASSWORD], safe_return(form.get("return_to", ""))
    person, problem, status = _proven(sign_in, request, name, form.get("password", ""))
    if person is None:
        return _login_page(request, return_to, name, problem, status)
    response = RedirectResponse(return_to, status_code=_SEE_OTHER)
    with sign_in.database.engine.begin() as connection:
        begin_session(sign_in, connection, person, response)
    _log.info("signed_in", identity=person.identity_id, address=address_of(request))
    return response


def _proven(sign_in: SignIn, request: Request, name: str, given: str) -> tuple[Person | None, str, int]:
    """Who that is, or what to tell them and with which status."""
    address = address_of(request)
    try:
        sign_in.attempts.check(address, name)
    except TooManyAttemptsError as error:
        return None, str(error), 429
    with sign_in.database.engine.connect() as connection:
        person = find_person(connection, name) if sign_in.settings.local_accounts else None
        kept = connection.execute(select(identities.c.password_hash).where(identities.c.identity_id == name)).scalar()
    if not is_password(given, kept if person else None):
        sign_in.attempts.failed(address, name)
        _log.info("sign_in_refused", address=address)
        return None, _WRONG, 401
    return person, "", 200


def _account(request: Request) -> Response:
    sign_in = sign_in_of(request)
    with sign_in.database.engine.connect() as connection:
        person = person_of(sign_in, connection, request)
    if person is None:
        return _to_login(request)
    return page(sign_in, request, "message", title="Signed in", text=f"You are {_name(person)}.", person=_name(person))


def _logout(request: Request, form: dict[str, str]) -> Response:
    sign_in = sign_in_of(request)
    check_form(sign_in, request, form)
    response = page(sign_in, request, "message", title="Signed out", text="This browser is signed out.")
    with sign_in.database.engine.begin() as connection:
        end_session(sign_in, connection, request, response)
    return response


def _password_page(request: Request, return_to: str, problem: str | None = None, status: int = 200) -> Response:
    sign_in = sign_in_of(request)
    with sign_in.database.engine.connect() as connection:
        person = person_of(sign_in, connection, request)
    if person is None:
        return _to_login(request)
    return page(
        sign_in,
        request,
        "password",
        status=status,
        person=person.identity_id,
        problem=problem,
        return_to=safe_return(return_to),
        shortest=SHORTEST_PASSWORD,
    )


def _change_password(request: Request, form: dict[str, str]) -> Response:
    sign_in = sign_in_of(request)
    check_form(sign_in, request, form)
    return_to, new = safe_return(form.get("return_to", "")), form.get("password", "")
    with sign_in.database.engine.connect() as connection:
        person = person_of(sign_in, connection, request)
    if person is None:
        return _to_login(request)
    proven, problem, status = _proven(sign_in, request, person.identity_id, form.get("current", ""))
    if proven is None:
        return _password_page(request, return_to, problem.replace("Name or password", "The password"), status)
    if new != form.get("again"):
        return _password_page(request, return_to, "The two new passwords differ.", 400)
    if new == form.get("current"):
        return _password_page(request, return_to, "The new password is the old one.", 400)
    if (weakness := password_problem(new, person.identity_id)) is not None:
        return _password_page(request, return_to, weakness, 400)
    response = RedirectResponse(return_to, status_code=_SEE_OTHER)
    with sign_in.database.engine.begin() as connection:
        set_password(connection, person.identity_id, new, is_one_time=False)
        changed = find_person(connection, person.identity_id)
        if changed is not None:
            begin_session(sign_in, connection, changed, response)
    _log.info("password_changed", identity=person.identity_id, address=address_of(request))
    return response


def _device_page(request: Request, user_code: str, problem: str | None = None, status: int = 200) -> Response:
    sign_in, address = sign_in_of(request), address_of(request)
    with sign_in.database.engine.connect() as connection:
        person = person_of(sign_in, connection, request)
        if person is None or person.password_is_one_time:
            return _first(person, request)
        found = _waiting(sign_in, connection, address, user_code) if user_code and not problem else None
    if isinstance(found, TooManyAttemptsError):
        problem, status, found = str(found), 429, None
    elif user_code and not found and not problem:
        problem, status = "No device waits with this code: it may be mistyped, or too old.", 404
    return page(
        sign_in,
        request,
        "device",
        status=status,
        problem=problem,
        person=_name(person),
        is_known=bool(found),
        user_code=found or user_code,
    )


def _waiting(
    sign_in: SignIn, connection: Connection, address: str, user_code: str
) -> str | TooManyAttemptsError | None:
    try:
        sign_in.attempts.check(address)
    except TooManyAttemptsError as error:
        return error
    found = waiting_device(connection, user_code)
    if found is None:
        sign_in.attempts.failed(address)
    return found


def _answer_device(request: Request, form: dict[str, str]) -> Response:
    sign_in = sign_in_of(request)
    check_form(sign_in, request, form)
    is_allowed = form.get("answer") == "yes"
    with sign_in.database.engine.begin() as connection:
        person = person_of(sign_in, connection, request)
        if person is None or person.password_is_one_time:
            return _first(person, request)
        is_answered = answer_device(connection, form.get("user_code", ""), person, is_allowed=is_allowed)
    shown: dict[str, Any] = {"title": "Refused", "text": "The device was turned away."}
    if not is_answered:
        shown = {"title": "Too late", "text": "The device does not wait any more: begin there again.", "status": 404}
    elif is_allowed:
        shown = {"title": "Done", "text": "The device is let in. You can close this page."}
    return page(sign_in, request, "message", **shown)


def _first(person: Person | None, request: Request) -> Response:
    """To where a person has to go before anything else."""
    if person is None:
        return _to_login(request)
    return RedirectResponse(f"/auth/password?return_to={quote(_here(request), safe='')}", status_code=_SEE_OTHER)


def _to_login(request: Request) -> Response:
    return RedirectResponse(f"/auth/login?return_to={quote(_here(request), safe='')}", status_code=_SEE_OTHER)


def _here(request: Request) -> str:
    return f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path


def _name(person: Person) -> str:
    return f"{person.display_name} ({person.identity_id})" if person.display_name else person.identity_id
