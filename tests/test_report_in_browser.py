"""How the page about all studies behaves in a browser."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator

from tests.browser import LEAST_CONTRAST, chromium, opened
from tests.made_up_page import BODY, write_all


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_all(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as it:
        yield it


def column(table: Locator, number: int) -> list[str]:
    return [cell.strip() for cell in table.locator(f"{BODY} > :nth-child({number})").all_inner_texts()]


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_loads_whole_and_alone(browser: Browser, report: Path, scheme: str) -> None:
    with opened(browser, report, color_scheme=scheme) as it:
        widths = it.page.eval_on_selector_all("img", "all => all.map(one => one.complete ? one.naturalWidth : 0)")
        assert len(widths) == 5
        assert min(widths) == 40
        assert it.errors == []
        assert [url for url in it.requests if not url.startswith("data:")] == [report.as_uri()]


@pytest.mark.browser
def test_verdicts_sort(browser: Browser, report: Path) -> None:
    with opened(browser, report) as it:
        table = it.page.locator("table.cards")
        seeds, verdict = (table.get_by_role("button", name=name) for name in ("seeds", "verdict"))
        seeds.click()
        assert column(table, 5) == ["0 of 12", "9 of 12", "10 of 12", "11 of 12", "12 of 12"]
        verdict.focus()
        it.page.keyboard.press("Enter")
        assert verdicts_of(table) == ["confirmed", "refuted", "undecided", "undecided", "not run"]
        assert table.locator("[aria-sort]").all_inner_texts() == ["verdict"]
        assert table.locator("th").nth(5).get_attribute("aria-sort") == "ascending"
        it.page.keyboard.press("Enter")
        assert verdicts_of(table) == ["not run", "undecided", "undecided", "refuted", "confirmed"]
        assert table.locator("th").nth(5).get_attribute("aria-sort") == "descending"
        table.get_by_role("button", name="ours").click()
        assert column(table, 4) == ["difference 9", "difference 10", "difference 11", "difference 12", "n/a"]
        table.get_by_role("button", name="ours").click()
        assert column(table, 4) == ["difference 12", "difference 11", "difference 10", "difference 9", "n/a"]
        table.get_by_role("button", name="claim").click()
        names = [one.split()[0] for one in column(table, 1)]
        assert names == ["layer_use", "lr_grid", "mng", "model_size", "repa"]


def verdicts_of(table: Locator) -> list[str]:
    return [one.splitlines()[0].strip() for one in column(table, 6)]


@pytest.mark.browser
def test_runs_sort(browser: Browser, report: Path) -> None:
    with opened(browser, report) as it:
        table = it.page.locator("table.wide")
        headers = [name.strip() for name in table.locator("thead th").all_inner_texts()]
        distance, status = headers.index("distance"), headers.index("status")
        button = table.get_by_role("button", name="distance")
        button.click()
        assert column(table, distance + 1) == ["18", "19", "50.25", "n/a", "n/a"]
        button.click()
        assert column(table, distance + 1) == ["50.25", "19", "18", "n/a", "n/a"]
        table.get_by_role("button", name="seed", exact=True).click()
        assert column(table, headers.index("seed") + 1) == ["0", "2", "3", "9", "10"]
        table.get_by_role("button", name="status").click()  # the three that finished keep their order
        assert [one.split()[0] for one in column(table, status + 1)] == ["diverged", "failed", *["finished"] * 3]
        assert column(table, headers.index("seed") + 1) == ["2", "3", "0", "9", "10"]
        for button in table.locator("thead button").all():
            button.click()
            button.click()
        assert table.locator(BODY).count() == 5
        assert it.errors == []


@pytest.mark.browser
@pytest.mark.parametrize("width_px", [320, 390])
def test_fits_a_phone(browser: Browser, report: Path, width_px: int) -> None:
    with opened(browser, report, width_px) as it:
        assert it.page.evaluate("document.documentElement.scrollWidth") <= width_px
        scrolls = it.page.locator(".scroll")
        assert scrolls.get_attribute("tabindex") == "0"
        assert scrolls.evaluate("one => one.scrollWidth > one.clientWidth")
        assert it.page.get_by_role("button", name="verdict").is_visible()


@pytest.mark.browser
def test_prints(browser: Browser, report: Path) -> None:
    with opened(browser, report) as it:
        it.page.evaluate("addEventListener('beforeprint', () => { document.title = 'beforeprint' })")
        pdf = it.page.pdf(prefer_css_page_size=True)
        assert pdf.startswith(b"%PDF")
        assert len(re.findall(rb"/Type /Page\b", pdf)) >= 2
        assert it.page.title() == "beforeprint"  # our listener came before this one
        it.page.emulate_media(media="print")
        it.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert it.page.locator("details:not([open])").count() == 0
        assert it.page.locator(".scroll").evaluate("one => getComputedStyle(one).overflowX") == "visible"
        arrows = "one => getComputedStyle(one, '::after').display"
        assert set(it.page.locator("thead button").evaluate_all(f"all => all.map({arrows})")) == {"none"}
        it.page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert it.page.locator("details[open]").count() == 0


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_can_be_told_from_its_ground(browser: Browser, report: Path, scheme: str) -> None:
    """The least contrast of any text (WCAG AA: 4.5)."""
    with opened(browser, report, color_scheme=scheme) as it:
        least, where = it.page.evaluate(LEAST_CONTRAST)
        assert least >= 4.5, where


@pytest.mark.browser
def test_headings_are_in_order(browser: Browser, report: Path) -> None:
    with opened(browser, report) as it:
        levels = it.page.eval_on_selector_all("h1, h2, h3, h4", "all => all.map(one => Number(one.tagName[1]))")
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))
        assert it.page.locator("html").get_attribute("lang") == "en"
        assert it.page.locator("img:not([alt]), img[alt='']").count() == 0
        assert it.page.locator("thead th:not([scope=col]), tbody th:not([scope=row])").count() == 0
