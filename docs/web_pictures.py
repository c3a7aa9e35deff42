"""Photograph the web page for docs/pages/web.md: a desk and a phone, in both languages.

It runs the real server with the bundled model and looks at it with Chromium, so the figures in
the pictures are those of the machine it runs on.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from skimage import data, io

PAGES = Path(__file__).parent / "pages"
CHROMIUM = "/usr/bin/chromium"
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--no-first-run")  # fmt: skip
COLOURS = 128
LIMIT_MS = 180_000


def main() -> int:
    command = [
        sys.executable, "-m", "rekindle.cli", "serve", "--web", "--provider", "opencl",
        "--precisions", "fp16,int8w", "--max-batch", "1", "--allow-model-control",
        "--http-port", "0", "--grpc-port", "0", "--memory-budget", "2GB",
    ]  # fmt: skip
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
    try:
        home = _home(server)
        with sync_playwright() as play, tempfile.TemporaryDirectory() as folder:
            photo = Path(folder) / "cat.png"
            io.imsave(photo, data.chelsea())
            browser = play.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
            page = _open(browser, f"{home}/web/en/", 1100, 800)
            _show(page, photo)
            _keep(page, "web-photo.png")
            page.get_by_role("tab").nth(2).click()
            page.locator(".rk-tiles").first.wait_for()
            _keep(page, "web-machine.png")
            phone = _open(browser, f"{home}/web/es/", 390, 844)
            _show(phone, photo)
            _keep(phone, "web-phone.png", whole=True)
            browser.close()
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)
    return 0


def _home(server: subprocess.Popen[str]) -> str:
    assert server.stderr is not None
    home = ""
    for line in server.stderr:
        if found := re.match(r"page +(http\S+?)/$", line):
            home = found[1]
        if "ask it something" in line:
            break
    if not home:
        raise SystemExit("the server did not start")
    return home


def _open(browser: Browser, url: str, width: int, height: int) -> Page:
    page = browser.new_page(viewport={"width": width, "height": height})
    page.set_default_timeout(LIMIT_MS)
    page.goto(url)
    page.locator("#rk-photo input[type=file]").wait_for(state="attached")
    page.wait_for_function("document.querySelector('#rk-model input')?.value")
    return page


def _show(page: Page, photo: Path) -> None:
    page.locator("#rk-photo input[type=file]").set_input_files(photo)
    page.locator(".rk-answer").wait_for()
    page.evaluate("document.querySelector('.rk-answer').dataset.first = 1")
    page.locator("#rk-again").click()  # the first run of a process is not what is usual
    page.locator(".rk-answer:not([data-first])").wait_for()
    page.locator("#rk-photo img").wait_for()


def _keep(page: Page, name: str, *, whole: bool = False) -> None:
    path = PAGES / name
    page.evaluate("scrollTo(0, 0)")
    page.screenshot(path=path, full_page=whole, animations="disabled")
    Image.open(path).convert("RGB").quantize(COLOURS).save(path, optimize=True)
    print(f"wrote {path.name}, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    raise SystemExit(main())
