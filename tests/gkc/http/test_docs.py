"""``/docs`` and all that it loads come from here."""

from __future__ import annotations

import re

from gkc.http.docs import DOCS_PATH
from tests.gkc.http.running import Session


def test_the_page_loads_only_our_own_files(asked: Session) -> None:
    page = asked.get(DOCS_PATH)
    assert page.status_code == 200
    assert not re.findall(r"(?:https?:)?//[a-z]", page.text), "no other host is named"
    loaded = re.findall(r"""(?:src|href|url)\s*[=:]\s*["']([^"']+)["']""", page.text)
    assert len(loaded) == 4, "a script, a style, an icon and the document"
    assert "/openapi.json" in loaded
    for path in loaded:
        assert path.startswith("/")
        answer = asked.get(path)
        assert answer.status_code == 200, path
        assert answer.content
    assert 'validatorUrl": null' in page.text, "else the document's address is sent to a validator"


def test_files_are_of_their_types_and_kept_by_browsers(asked: Session) -> None:
    script = asked.get(f"{DOCS_PATH}/swagger-ui-bundle.js")
    assert "javascript" in script.headers["content-type"]
    assert "SwaggerUIBundle" in script.text
    assert asked.get(f"{DOCS_PATH}/swagger-ui.css").headers["content-type"].startswith("text/css")
    assert script.headers["etag"]


def test_nothing_beside_them_is_served(asked: Session) -> None:
    for path in ("nothing.js", "../__init__.py", "%2e%2e/main.py", "..%2fmain.py"):
        answer = asked.get(f"{DOCS_PATH}/{path}")
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
