"""The pages on the server: one for each language, offline, with nothing left behind."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.routing import Mount

from rekindle import _config
from rekindle.serve.access.gate import Gate
from rekindle.serve.dataplane import DataPlane
from rekindle.web.catalogue import languages, load, preferred
from rekindle.web.frame import Framed

ROOT = "/web"


def mount(language: str | None) -> Callable[[FastAPI, DataPlane, Gate], None]:
    """A function that mounts the pages, and `/`, which leads to the one a reader wants."""

    def add(app: FastAPI, plane: DataPlane, gate: Gate) -> None:
        # Read when Gradio is imported, and when a component is made.
        uploads = tempfile.TemporaryDirectory(prefix="rekindle-web-")
        _config.confine_gradio(Path(uploads.name))
        import gradio

        from rekindle.web.page import build
        from rekindle.web.view import View

        view = View(plane, gate)
        for catalogue in map(load, languages()):
            code = catalogue.code
            gradio.mount_gradio_app(
                app,
                build(view, catalogue),
                f"{ROOT}/{code}",
                show_error=False,
                max_file_size=plane.settings.max_request_bytes,
                footer_links=[],
                run_history=False,  # it would keep photos in the browser
                ssr_mode=False,
                pwa=False,
                mcp_server=False,
                enable_monitoring=False,
                theme=_theme(),
                css_paths=Path(__file__).with_name("style.css"),
            )
            (mounted,) = (r for r in app.routes if getattr(r, "path", "") == f"{ROOT}/{code}")
            assert isinstance(mounted, Mount)
            mounted.app = Framed(mounted.app, catalogue)
        _clean_up_after(app, uploads)

        async def lead(request: Request) -> RedirectResponse:
            code = language or preferred(request.headers.get("accept-language", ""))
            root = request.scope.get("root_path", "").rstrip("/")
            return RedirectResponse(f"{root}{ROOT}/{code}/")

        for path in ("/", ROOT, f"{ROOT}/"):
            app.add_api_route(path, lead, methods=["GET"], include_in_schema=False)

    return add


def _theme() -> object:
    """Gradio's plain theme in the system's own fonts (others would come from Google), darkened
    until text on it has the contrast that WCAG asks for (4.5).
    """
    import gradio

    sans = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
    mono = ("ui-monospace", "Consolas", "monospace")
    theme = gradio.themes.Base(
        primary_hue="emerald", neutral_hue="stone", font=sans, font_mono=mono, text_size="lg"
    )
    return theme.set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_label_text_color="*neutral_700",
        block_title_text_color="*neutral_700",
        color_accent="*primary_700",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_text_color="white",
    )


def _clean_up_after(app: FastAPI, uploads: tempfile.TemporaryDirectory[str]) -> None:
    inner = app.router.lifespan_context

    @contextlib.asynccontextmanager
    async def outer(app: FastAPI) -> AsyncIterator[object]:
        try:
            async with inner(app) as state:
                yield state
        finally:
            uploads.cleanup()

    app.router.lifespan_context = outer  # type: ignore[assignment]
