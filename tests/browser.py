"""A headless Chromium for tests of pages."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

LEAST_CONTRAST = """() => {
  const parts = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (color) => parts(color).slice(0, 3).map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (one) => {
    for (; one; one = one.parentElement) {
      const color = getComputedStyle(one).backgroundColor;
      if (parts(color)[3] !== 0) return color;
    }
    return "rgb(255, 255, 255)";
  };
  return Array.from(document.querySelectorAll("p, a, dt, dd, li, th, td, button, summary, figcaption, span, h1, h2, h3, h4"))
    .filter((one) => one.textContent.trim())
    .map((one) => {
      const [a, b] = [light(getComputedStyle(one).color), light(behind(one))].sort((x, y) => y - x);
      return [(a + 0.05) / (b + 0.05), one.className + " " + one.textContent.trim().slice(0, 40)];
    })
    .sort((x, y) => x[0] - y[0])[0];
}"""
"""Of any text against what lies behind it, and which."""


@dataclass
class Opened:
    """A page with what went wrong on it, and what it asked for besides itself."""

    page: Page
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser; skips, or where REQUIRE_BROWSER is set fails, without one."""
    found = shutil.which("chromium")
    if found is None:
        reason = "no chromium on the PATH (Debian: apt install chromium)"
        assert not os.environ.get("REQUIRE_BROWSER"), reason
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Browser, file: Path, width_px: int = 1280, **context: Any) -> Iterator[Opened]:
    """A file as a page of so many pixels' width. ``context``: Playwright's, e.g. ``color_scheme``."""
    at = browser.new_context(viewport={"width": width_px, "height": 900}, **context)
    it = Opened(at.new_page())
    it.page.on("console", lambda message: it.errors.append(message.text) if message.type == "error" else None)
    it.page.on("pageerror", lambda error: it.errors.append(str(error)))
    it.page.on("request", lambda request: it.requests.append(request.url))
    it.page.goto(file.as_uri())
    try:
        yield it
    finally:
        at.close()
