"""The search page as it is sent; ``tests/gateway/integrations/page`` opens it in a browser."""

import base64
import hashlib
import re

from tests.gateway.harness import Http

MOST_BYTES = 128 << 10
"""It is read by people who change it, and sent without compression."""


def page(http: Http) -> str:
    return http("GET", "/").body.decode()


def test_the_page_may_run_its_own_code_only(http: Http) -> None:
    answer = http("GET", "/")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = dict(
        part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; ")
    )
    for kind in ("style", "script"):
        (code,) = re.findall(rf"<{kind}>(.*?)</{kind}>", answer.body.decode(), re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        assert policy.pop(f"{kind}-src") == f"'sha256-{digest}'"
    assert policy == {
        "default-src": "'none'",
        "connect-src": "'self'",
        "img-src": "data:",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"


def test_the_page_is_whole_and_makes_no_markup_of_texts(http: Http) -> None:
    text = page(http)
    addresses = set(re.findall(r"https?://[^\s'\")]+", text))
    assert addresses == {"http://www.w3.org/2000/svg"}, "the name of a vocabulary"
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)
    assert not re.search(r"<[^>]+\s(?:style|on\w+)=", text.partition("<script>")[0])
    assert len(re.findall(r"<(?:script|style|link)\b", text)) == 3, "the link is its icon"
    assert len(text.encode()) < MOST_BYTES


def test_a_browser_that_has_the_page_is_told_so(http: Http) -> None:
    tag = http("GET", "/").headers["etag"]
    again = http("GET", "/", if_none_match=tag)
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
    assert http("GET", "/", if_none_match='"another"').status == 200
    assert http("POST", "/").problem == (405, "METHOD_NOT_ALLOWED")


def test_no_answer_is_taken_for_a_page(http: Http) -> None:
    for path in ("/", "/healthz", "/v1/documents", "/nothing"):
        assert http("GET", path).headers["x-content-type-options"] == "nosniff"


def test_pages_of_others_may_not_have_it(http: Http) -> None:
    assert http("GET", "/", host="evil.example").problem == (421, "FOREIGN_HOST")
