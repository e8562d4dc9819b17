"""The page `/docs`, which shows the API; the only one of the server's that a browser may run scripts in."""

import base64
import hashlib
import re

from fastapi import APIRouter, Depends, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse

from server.access import open_to_all

__all__ = ["router"]

_SWAGGER_UI = "https://cdn.jsdelivr.net/npm/swagger-ui-dist@5/"
_INLINE = re.compile(r"<script>(.*?)</script>", re.DOTALL)

router = APIRouter(dependencies=[Depends(open_to_all)])


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> HTMLResponse:
    root = request.scope.get("root_path", "").rstrip("/")
    page = get_swagger_ui_html(openapi_url=f"{root}{request.app.openapi_url}", title=request.app.title)
    page.headers["content-security-policy"] = _policy(bytes(page.body).decode())
    return page


def _policy(html: str) -> str:
    """Swagger UI's own files and the page's own script; the page speaks to this server only."""
    own = " ".join(f"'sha256-{_digest(script)}'" for script in _INLINE.findall(html))
    return (
        f"default-src 'none'; script-src {_SWAGGER_UI} {own}; style-src {_SWAGGER_UI} 'unsafe-inline'; "
        "img-src data: https://fastapi.tiangolo.com; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'"
    )


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
