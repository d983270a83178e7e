"""``/docs``: Swagger UI on our OpenAPI document, which works without a network.

FastAPI's own page loads Swagger UI from a content delivery network. Here its files come from the
package ``fastapi-swagger``, which holds a copy of each release.
"""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.staticfiles import StaticFiles
from starlette.responses import HTMLResponse

DOCS_PATH: Final = "/docs"
_OPENAPI_PATH: Final = "/openapi.json"
_PARAMETERS: Final[dict[str, Any]] = {"validatorUrl": None}
"""By default the page sends the document's address to a validator of Swagger's on the internet."""


def add_docs(api: FastAPI) -> None:
    """Add the page and the files that it loads to an application without docs of its own."""
    api.add_api_route(DOCS_PATH, _page, include_in_schema=False)
    api.mount(DOCS_PATH, StaticFiles(packages=[("fastapi_swagger", "resources")]))


async def _page() -> HTMLResponse:
    return get_swagger_ui_html(
        openapi_url=_OPENAPI_PATH,
        title="gkc",
        swagger_js_url=f"{DOCS_PATH}/swagger-ui-bundle.js",
        swagger_css_url=f"{DOCS_PATH}/swagger-ui.css",
        swagger_favicon_url=f"{DOCS_PATH}/favicon-32x32.png",
        swagger_ui_parameters=_PARAMETERS,
    )
