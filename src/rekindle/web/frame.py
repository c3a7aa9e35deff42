"""Around Gradio's application: the page's language, and a browser that asks nobody else.

Gradio's own words (of its upload field, its toasts) follow the browser's language, whatever the
page's is; so the page tells its scripts that the browser speaks the page's. And its HTML names
addresses elsewhere, for previews in social networks, which a lab has no use for.
"""

from __future__ import annotations

import json
import re
from html import escape

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rekindle.web.catalogue import Catalogue

_POLICY = "; ".join((
    "default-src 'self'",
    "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",  # Gradio compiles its templates
    "style-src 'self' 'unsafe-inline'",
    "img-src 'self' data: blob:",
    "media-src 'self' data: blob:",
    "font-src 'self' data:",
    "connect-src 'self' data: blob:",
    "worker-src 'self' blob:",
    "object-src 'none'",
    "base-uri 'self'",
    "form-action 'self'",
    "frame-ancestors 'none'",
))  # fmt: skip
"""The browser itself refuses to load from, or send to, anywhere but this server."""
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
_ELSEWHERE = re.compile(r'\s*<meta\s[^>]*(?:og:|twitter:)[^>]*/>|\s*<link\s[^>]*"https?://[^>]*/?>')
_ICON = (
    "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'><path "
    "fill='%23047857' d='M8 1c1 4 5 5 5 9a5 5 0 0 1-10 0c0-2 1-3 2-4 0 2 1 3 2 3 1-3-1-4 1-8z'/>"
    "</svg>"
)
# One sentence of Gradio's is in English only: of a file whose name is not a picture's.
_SCRIPT = """
Object.defineProperty(navigator, "language", {value: %(code)s});
Object.defineProperty(navigator, "languages", {value: [%(code)s]});
new MutationObserver(() => {
  for (const toast of document.querySelectorAll('[data-testid="toast-text"]'))
    if (toast.textContent.startsWith("Invalid file type")) toast.textContent = %(refused)s;
}).observe(document, {childList: true, subtree: true});
"""


class Framed:
    """An ASGI application that is Gradio's, with a page in `catalogue`'s language."""

    def __init__(self, app: ASGIApp, catalogue: Catalogue) -> None:
        self._app = app
        self._catalogue = catalogue

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        page = scope["path"].removeprefix(scope.get("root_path", "")) in ("", "/")
        started: Message = {}
        body = bytearray()

        async def sending(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
                if page and _is_page(message):
                    started = message
                    return
            elif started:
                body.extend(message.get("body", b""))
                if message.get("more_body"):
                    return
                text = self._translated(body.decode("utf-8")).encode("utf-8")
                kept = [h for h in started["headers"] if h[0].lower() != b"content-length"]
                started["headers"] = [*kept, (b"content-length", str(len(text)).encode())]
                await send(started)
                message = {"type": "http.response.body", "body": text}
            await send(message)

        # The page must come as it is, to be changed; the rest may be compressed.
        plain = [h for h in scope["headers"] if not page or h[0] != b"accept-encoding"]
        await self._app({**scope, "headers": plain}, receive, sending)

    def _translated(self, page: str) -> str:
        c = self._catalogue
        code = json.dumps(c.code)
        script = _SCRIPT % {"code": code, "refused": json.dumps(
            f"{c('error.image')} {c('error.image_next')}"
        )}  # fmt: skip
        first = f'<link rel="icon" href="{escape(_ICON)}" /><script>{script}</script>'
        page = _ELSEWHERE.sub("", page).replace('lang="en"', f"lang={code}", 1)
        return page.replace("<head>", f"<head>{first}", 1)


def _is_page(message: Message) -> bool:
    kinds = (value for name, value in message["headers"] if name.lower() == b"content-type")
    return any(value.startswith(b"text/html") for value in kinds)
