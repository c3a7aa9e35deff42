"""The page in one language: what is on it, and what happens when it is touched."""

from __future__ import annotations

from collections.abc import AsyncIterator
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import ImageData

from rekindle._errors import InputError, RekindleError
from rekindle._log import logger
from rekindle.web import fragments
from rekindle.web.catalogue import Catalogue, languages, load
from rekindle.web.view import View

_REFRESH_S = 2.0
_KEEP_S = 300
"""Uploaded photos are deleted after this time, looked for as often."""
_PRESSED = """
element.addEventListener("click", event => {
  const button = event.target.closest("button[data-model]");
  if (!button || button.disabled) return;
  button.disabled = true;  // a list that stays as it was is not drawn anew: enable it again
  setTimeout(() => { button.disabled = false; }, 3000);
  trigger("click", {model: button.dataset.model, load: button.dataset.load === "1"});
});
"""
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
"""Gradio's own progress speaks the browser's language, not the page's."""


def _as_uploaded(payload: ImageData | None) -> str | None:
    """An uploaded image's path: what it is, Rekindle's own reader judges, not Gradio's."""
    return payload.path if payload else None


class Page:
    """What happens on the page of one language."""

    def __init__(self, view: View, catalogue: Catalogue) -> None:
        self.view = view
        self.c = catalogue

    def opened(self) -> Any:
        """The choice of models, when a reader arrives or comes back to the photo."""
        names = self.view.classifiers()
        return gr.Dropdown(choices=names, value=names[0] if names else None, visible=bool(names))

    async def look(
        self, photo: str | None, model: str | None, precision: str, request: gr.Request
    ) -> AsyncIterator[tuple[Any, Any, Any]]:
        """Labels for a photo, as HTML, the button to ask again, and the photo.

        Where it failed a toast and a note say so; a file that is no photo is taken away.
        """
        model = model or next(iter(self.view.classifiers()), None)
        if photo is None or model is None:
            empty = fragments.nothing_yet if model else fragments.no_model
            yield empty(self.c), gr.Button(visible=False), gr.skip()
            return
        yield fragments.working(self.c), gr.skip(), gr.skip()
        try:
            self.view.permit("infer", request)
            named = await self.view.classify(Path(photo), model, precision)
            said = precision if len(self.view.precisions) > 1 else ""
            yield fragments.answer(self.c, named, said), gr.Button(visible=True), gr.skip()
        except Exception as error:  # the boundary to the reader
            known = self.toast(error)
            spoilt = isinstance(known, InputError)
            kept = None if spoilt else gr.skip()
            yield fragments.failure(self.c, known), gr.Button(visible=not spoilt), kept

    def models(self) -> str:
        """The list of models, as HTML."""
        return fragments.models(self.c, self.view.models(), control=self.view.control)

    async def pressed(self, event: gr.EventData, request: gr.Request) -> str:
        """Load or unload the model of a button; the list as it is then."""
        name, load = str(event.model), event.load is True
        try:
            self.view.permit("admin", request)
            await (self.view.load if load else self.view.unload)(name)
        except Exception as error:
            self.toast(error)
        else:
            said = self.c("models.loaded" if load else "models.unloaded", model=name)
            gr.Info(escape(said))
        return self.models()

    async def figures(self) -> str:
        return fragments.figures(self.c, await self.view.figures())

    def toast(self, error: Exception) -> RekindleError:
        """Say that something failed; a bug goes into the log, not to the reader."""
        if not isinstance(error, RekindleError):
            logger.error("the page failed", exc_info=error)
            error = RekindleError("internal error; the server's log says more")
        what, then = fragments.failure_texts(self.c, error)
        gr.Warning(escape(f"{what} {then}"))
        return error


def build(view: View, catalogue: Catalogue) -> gr.Blocks:
    """The page of one language; the others are linked at its top."""
    page, c = Page(view, catalogue), catalogue
    others = [load(code) for code in languages() if code != c.code]
    with gr.Blocks(
        title=c("page.title"), analytics_enabled=False, delete_cache=(_KEEP_S, _KEEP_S)
    ) as blocks:
        gr.HTML(fragments.header(c, others), elem_id="rk-header")
        with gr.Tabs():
            with gr.Tab(c("page.photo_tab")) as photo_tab:
                _photo(page, blocks, photo_tab)
            with gr.Tab(c("page.models_tab")) as models_tab:
                models = _models(page, blocks)
            with gr.Tab(c("page.machine_tab")) as machine_tab:
                figures = gr.HTML(elem_id="rk-figures")
        timer = gr.Timer(_REFRESH_S, active=False)
        timer.tick(page.figures, None, figures, **_QUIET)
        timer.tick(page.models, None, models, **_QUIET)
        # Nobody asks for figures that nobody looks at.
        photo_tab.select(lambda: gr.Timer(active=False), None, timer, **_QUIET)
        for tab in (models_tab, machine_tab):
            tab.select(lambda: gr.Timer(active=True), None, timer, **_QUIET)
        machine_tab.select(page.figures, None, figures, **_QUIET)
        models_tab.select(page.models, None, models, **_QUIET)
    blocks.queue(default_concurrency_limit=None, api_open=False)
    return blocks


def _photo(page: Page, blocks: gr.Blocks, tab: gr.Tab) -> None:
    c = page.c
    with gr.Row(elem_classes="rk-columns"):
        with gr.Column():
            photo = gr.Image(
                label=c("photo.label"), placeholder=c("photo.drop"), sources=["upload"],
                type="filepath", height=320, buttons=[], elem_id="rk-photo",
            )  # fmt: skip
            photo.preprocess = _as_uploaded
            model = gr.Dropdown(
                label=c("photo.model"), choices=[], visible=False, filterable=False,
                elem_id="rk-model",
            )  # fmt: skip
            offered = page.view.precisions
            precision = gr.Radio(
                [(c(f"precision.{name}"), name) for name in offered], value=offered[0],
                label=c("photo.precision"), visible=len(offered) > 1, elem_id="rk-precision",
            )  # fmt: skip
            again = gr.Button(
                c("photo.again"), variant="primary", visible=False, elem_id="rk-again"
            )
        with gr.Column():
            result = gr.HTML(fragments.nothing_yet(c), elem_id="rk-result")
    for happens in (photo.upload, photo.clear, model.input, precision.input, again.click):
        happens(
            page.look,
            [photo, model, precision],
            [result, again, photo],
            trigger_mode="always_last",
            **_QUIET,
        )
    for happens in (blocks.load, tab.select):
        happens(page.opened, None, model, **_QUIET)


def _models(page: Page, blocks: gr.Blocks) -> gr.HTML:
    """The list; its buttons name their model and what they do with it."""
    listed = gr.HTML(js_on_load=_PRESSED, elem_id="rk-models")
    listed.click(page.pressed, None, listed, **_QUIET)
    blocks.load(page.models, None, listed, **_QUIET)
    return listed
