"""The search page: one file of HTML, CSS and JavaScript, which asks the REST API beside it."""

import base64
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

_FILE: Final = "index.html"
_INLINE: Final = re.compile(r"<(style|script)>(.*?)</\1>", re.DOTALL)
_NOT_MODIFIED: Final = 304


@dataclass(frozen=True, slots=True)
class Page:
    """The page as it is sent."""

    content: bytes
    headers: dict[str, str]


router = APIRouter()
"""The route of the page. It needs no token; what the page asks for does."""


@router.get("/", include_in_schema=False)
async def search_page(request: Request) -> Response:
    """Return the page, or say that the browser has it."""
    page = search_page_file()
    if request.headers.get("if-none-match") == page.headers["etag"]:
        return Response(status_code=_NOT_MODIFIED, headers=page.headers)
    return Response(page.content, headers=page.headers, media_type="text/html")


@cache
def search_page_file() -> Page:
    """Return the page with headers that let it run its own code, and nothing else."""
    content = resources.files("retrieval.gateway").joinpath("page", _FILE).read_bytes()
    tag = hashlib.sha256(content).hexdigest()[:32]
    headers = {
        "content-security-policy": _policy(content.decode()),
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "x-frame-options": "DENY",
        # Checked each time, so that a browser never runs the page of an older version.
        "cache-control": "no-cache",
        "etag": f'"{tag}"',
    }
    return Page(content, headers)


def _policy(text: str) -> str:
    """Return the content security policy: the page's own style and script, by their hashes."""
    hashes = {kind: _hash(code) for kind, code in _INLINE.findall(text)}
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {hashes['script']}",
            f"style-src {hashes['style']}",
            "connect-src 'self'",
            "img-src data:",  # its icon
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'none'",
            # No text can become markup or code, whatever the page's script does.
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def _hash(code: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"
