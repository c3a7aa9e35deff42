"""The page in a real Chromium, as a person uses it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import LIMIT_S, Running

from rekindle.serve.access import keys as ring
from rekindle.web.catalogue import load

pytest.importorskip("playwright", reason="playwright is not installed")
from playwright.sync_api import Browser, Page, expect, sync_playwright

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
PHONE, DESK = 390, 1280
EN, ES = load("en"), load("es")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield started
        started.close()


class Visit:
    """A reader's page, and whatever it asked for elsewhere or complained about."""

    def __init__(
        self, browser: Browser, server: Running, width: int, locale: str, key: str | None = None
    ) -> None:
        self.home = f"http://{server.http}"
        context = browser.new_context(
            viewport={"width": width, "height": 844}, locale=locale,
            http_credentials={"username": "me", "password": key} if key else None,
        )  # fmt: skip
        context.set_default_timeout(LIMIT_S * 1e3)
        self.page = context.new_page()
        self.elsewhere: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", self._requested)
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _requested(self, request: Any) -> None:
        if not request.url.startswith((self.home, "data:", "blob:")):
            self.elsewhere.append(request.url)

    def _said(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def open(self, path: str = "/") -> Page:
        self.page.goto(self.home + path)
        self.page.locator("#rk-photo input[type=file]").wait_for(state="attached")
        expect(self.page.locator("#rk-model input")).not_to_have_value("")
        return self.page


@pytest.fixture
def visit(browser: Browser, server: Running) -> Iterator[Callable[..., Visit]]:
    made: list[Visit] = []

    def begin(width: int = DESK, locale: str = "en-US") -> Visit:
        made.append(Visit(browser, server, width, locale))
        return made[-1]

    yield begin
    for one in made:
        one.page.context.close()
        assert one.elsewhere == []
        assert one.complaints == []


@pytest.fixture(autouse=True)
def _patient() -> None:
    expect.set_options(timeout=LIMIT_S * 1e3)


def give(page: Page, photo: Path) -> None:
    page.locator("#rk-photo input[type=file]").set_input_files(photo)


def test_a_photo_gets_its_labels_on_any_width_without_sideways_scrolling(
    visit: Callable[..., Visit], photos: Path
) -> None:
    for width in (PHONE, DESK):
        page = visit(width).open()
        give(page, photos / "green.png")
        answer = page.locator(".rk-answer")
        expect(answer.locator(".rk-best span")).to_have_text("green")
        expect(answer.locator(".rk-bars li")).to_have_count(3)
        expect(answer).to_contain_text(EN("place.onnxruntime"))
        expect(answer).to_contain_text("colours, version 1")
        for tab in range(3):
            page.get_by_role("tab").nth(tab).click()
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            small = page.evaluate(_TOO_SMALL)
            assert small == []


_TOO_SMALL = """
[...document.querySelectorAll('button, a, summary, [role=tab]')]
  .filter(e => e.offsetParent)
  .filter(e => e.closest('.rk-head, [role=tablist], #rk-again, .rk-control, details'))
  .filter(e => e.getBoundingClientRect().height < 40).map(e => e.outerHTML.slice(0, 80))
"""


def test_another_model_answers_when_it_is_chosen(visit: Callable[..., Visit], photos: Path) -> None:
    page = visit().open()
    give(page, photos / "blue.png")
    expect(page.locator(".rk-best span")).to_have_text("blue")
    page.locator("#rk-model input").click()
    page.get_by_role("option", name="tints").click()
    expect(page.locator(".rk-answer")).to_contain_text("tints, version 1")
    page.locator("#rk-again").click()
    expect(page.locator(".rk-best span")).to_have_text("blue")


def test_the_language_is_the_browsers_and_can_be_changed(visit: Callable[..., Visit]) -> None:
    here = visit(locale="es-CO")
    page = here.open()
    expect(page).to_have_title(ES("page.title"))
    assert page.url.endswith("/web/es/")
    assert page.evaluate("document.documentElement.lang") == "es"
    page.get_by_role("link", name="English").click()
    expect(page).to_have_title(EN("page.title"))
    expect(page.get_by_role("tab").first).to_have_text(EN("page.photo_tab"))
    page.get_by_role("link", name="Español").click()
    expect(page.get_by_role("tab").first).to_have_text(ES("page.photo_tab"))
    # Gradio's stream of events complains when its page is left.
    left = ("AbortError", "errored out")
    here.complaints = [c for c in here.complaints if not any(word in c for word in left)]


@pytest.mark.parametrize("catalogue", [EN, ES], ids=["en", "es"])
def test_every_word_on_the_page_is_of_its_language(
    visit: Callable[..., Visit], photos: Path, catalogue: Any
) -> None:
    """The browser speaks the other language: nothing of it may show."""
    page = visit(locale="es-ES" if catalogue is EN else "en-US").open(f"/web/{catalogue.code}/")
    allowed = [re.escape(text) for text in catalogue.texts.values()]
    patterns = [re.sub(r"\\\{\w+\\\}", ".*", text).replace("\\\n", r"\s+") for text in allowed]
    spoken = re.compile("|".join(patterns))
    for tab in range(3):
        page.get_by_role("tab").nth(tab).click()
        if tab == 0:
            give(page, photos / "green.png")
            expect(page.locator(".rk-answer")).to_be_visible()
        else:
            shown = (".rk-model", ".rk-tiles")[tab - 1]
            expect(page.locator(shown).first).to_be_visible()
        seen = page.evaluate(_VISIBLE_TEXTS)
        assert len(seen) > 5
        strange = [t for t in seen if re.search(r"[^\W\d_]{2}", t) and not spoken.fullmatch(t)]
        assert set(strange) <= _DATA | {load(code)("language") for code in ("en", "es")}


_DATA = {
    "green", "red", "blue", "colours", "tints", "colours, version 1", "colours, versión 1",
    "onnxruntime on CPUExecutionProvider (asked for)",
}  # fmt: skip
_VISIBLE_TEXTS = """
(() => {
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
  while (walk.nextNode()) {
    const box = walk.currentNode.parentElement;
    if (box.closest('script, style, noscript') || !box.checkVisibility({visibilityProperty: true}))
      continue;
    if (parseFloat(getComputedStyle(box).fontSize) === 0) continue;
    const text = walk.currentNode.textContent.trim();
    if (text) found.push(text);
  }
  return found;
})()
"""


@pytest.mark.parametrize("catalogue", [EN, ES], ids=["en", "es"])
def test_a_bad_file_is_told_in_a_toast_and_on_the_page(
    visit: Callable[..., Visit], photos: Path, tmp_path: Path, catalogue: Any
) -> None:
    page = visit(PHONE).open(f"/web/{catalogue.code}/")
    give(page, photos / "bad.png")
    toast = page.get_by_test_id("toast-text").first
    expect(toast).to_contain_text(catalogue("error.image"))
    expect(page.locator(".rk-error")).to_contain_text(catalogue("error.image_next"))
    other = tmp_path / "notes.txt"
    other.write_text("no picture")
    give(page, other)
    expect(page.get_by_test_id("toast-text")).to_have_count(2)
    for told in page.get_by_test_id("toast-text").all():
        expect(told).to_contain_text(catalogue("error.image"))
    give(page, photos / "green.png")  # and the next one works
    expect(page.locator(".rk-best span")).to_have_text("green")


def test_a_model_is_unloaded_and_loaded(visit: Callable[..., Visit], server: Running) -> None:
    page = visit().open()
    page.get_by_role("tab").nth(1).click()
    row = page.locator(".rk-model", has_text="tints")
    expect(row.locator(".rk-state")).to_have_text(EN("state.READY"))
    row.get_by_role("button", name=EN("models.unload")).click()
    expect(page.get_by_test_id("toast-text").first).to_have_text(
        EN("models.unloaded", model="tints")
    )
    expect(row.locator(".rk-state")).to_have_text(EN("state.UNLOADED"))
    assert [slot.entry.name for slot in server.plane.fleet.slots()] == ["colours"]
    row.get_by_role("button", name=EN("models.load")).click()
    expect(row.locator(".rk-state")).to_have_text(EN("state.READY"))
    assert {slot.entry.name for slot in server.plane.fleet.slots()} == {"colours", "tints"}


def test_figures_follow_what_happens(visit: Callable[..., Visit], server: Running) -> None:
    page = visit(PHONE).open()
    page.get_by_role("tab").nth(2).click()
    tiles = page.locator("#rk-figures .rk-tiles").first
    expect(tiles).to_contain_text(EN("machine.answered"))
    server.plane.statistics["colours", "1"].answered(0.5, ok=False)
    failed = tiles.locator("div", has_text=EN("machine.failed")).locator("dd")
    expect(failed).not_to_have_text("0")  # by itself: nobody touches the page


def test_without_model_control_there_are_no_buttons(browser: Browser, strict: Running) -> None:
    page = Visit(browser, strict, DESK, "en-US").open("/web/en/")
    page.get_by_role("tab").nth(1).click()
    expect(page.locator(".rk-model").first).to_be_visible()
    expect(page.get_by_text(EN("models.control_off"))).to_be_visible()
    expect(page.locator(".rk-control")).to_have_count(0)
    page.context.close()


def test_a_reader_with_a_key_may_do_what_the_key_may(
    browser: Browser,
    begin: Callable[..., Running],
    repository: Path,
    photos: Path,
    tmp_path: Path,
) -> None:
    text, key = ring.make("ranger", ("infer",))
    ring.write(tmp_path / "keys.toml", [key])
    server = begin(repository, api_keys=tmp_path / "keys.toml")
    page = Visit(browser, server, PHONE, "en-US", text).open()
    give(page, photos / "green.png")
    expect(page.locator(".rk-best span")).to_have_text("green")
    page.get_by_role("tab").nth(1).click()
    page.locator(".rk-model", has_text="tints").get_by_role("button").click()
    expect(page.get_by_test_id("toast-text").first).to_contain_text(EN("error.forbidden"))
    assert {slot.entry.name for slot in server.plane.fleet.slots()} == {"colours", "tints"}
    expect(page.locator(".rk-model", has_text="tints").get_by_role("button")).to_be_enabled()
    page.context.close()
