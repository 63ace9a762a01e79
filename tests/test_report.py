"""The page about all studies: what it says, and how it behaves in a browser."""

import base64
import io
import re
from collections.abc import Iterator
from html import unescape
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator

from analysis.evidence import HOLDS, Outcome
from analysis.report import write_report
from analysis.verdicts import Judged
from gat.errors import UserError
from tests.browser import LEAST_CONTRAST, chromium, opened
from tests.made_up import PROTOCOL, claim_of, run_rows, write_results

ODD = "a<b> & \"c\" 'd'"
PAPER_COMMIT = "0123456789abcdef"
CURVE = {500: 90.0, 1000: 50.25}
BODY = "tbody tr"


def facts(run: str, **columns: Any) -> dict[str, Any]:
    """What a record says of a run of a quarter of an hour."""
    own = {"run": run, "seconds": 900.0, "processes": 1, "git_commit": PAPER_COMMIT, "git_dirty": False}
    more = {"hardware": "made-up CPU", "ended_at": "2025-11-20T23:30:00+00:00", "size": "S", "mng_schedule": "linear"}
    return own | more | {"patch": 2, "lr_g": 4e-4, "total_steps": 1000, "truncation": 0.0} | columns


def save_png(file: Path, size: tuple[int, int] = (40, 30)) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "teal").save(file)


def judged(sweep: str, verdict: str, number: int, **claim: Any) -> Judged:
    stated = claim_of("mng") | {"id": sweep} | claim
    outcomes = [] if verdict == "not run" else [Outcome(HOLDS, f"difference {number}")] * len(stated["rule"])
    return Judged(sweep, stated, verdict, outcomes, f"{number} of 12")


def write_all(results: Path) -> Path:
    """Two sweeps that share a run, one with odd names, and claims of every verdict."""
    shared = facts("shared", seconds=1800.0, processes=4, ended_at="2025-11-22T01:00:00+00:00")
    plain = run_rows("plain", 0, CURVE, **shared)
    many = [row for seed in (9, 10) for row in run_rows("many", seed, {1000: 9.0 + seed}, **facts(f"many{seed}"))]
    gone = run_rows("many", 2, {}, diverged_step=31, detail="not finite", **facts("gone", git_dirty=True))
    failed = {"arm": "many", "seed": 3, "status": "failed", "detail": ODD, "run": "failed"}
    write_results(results, "mng", [*plain, *many, *gone, failed], missing=["many, seed 3"], claim_changed=True)
    again = run_rows(ODD, 0, CURVE, **shared)
    write_results(results, "repa", again, claim=None)
    write_results(results, "mng", many, diagnostic="layers")
    (results / "demo").mkdir()
    (results / "demo" / "record.json").write_text('{"sweep": "demo"}')
    save_png(results / "mini" / "figures" / "mng.png", (400, 100))
    save_png(results / "mini" / "figures" / "quo'ted.png")
    for name in ("mng-plain-samples", "repa-stages", "walk"):
        save_png(results / "mini" / "pictures" / f"{name}.png")
    claims = [
        judged("lr_grid", "not run", 0),
        judged("repa", "undecided", 9, sentence=ODD),
        judged("model_size", "refuted", 10),
        judged("mng", "confirmed", 11),
    ]
    return write_report(results, {"mini": claims, "cifar10": []}, {"mng": f"caption of {ODD}"})


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_all(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def text(report: Path) -> str:
    return report.read_text()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as it:
        yield it


def words(text: str) -> str:
    """What is read of a page or a part of it."""
    plain = re.sub(r"<(style|script)>.*?</\1>", "", text, flags=re.DOTALL)
    return re.sub(r" ([,.:;])", r"\1", " ".join(unescape(re.sub(r"<[^>]*>", " ", plain)).split()))


def test_asks_for_nothing_elsewhere(text: str) -> None:
    sources = re.findall(r'<(?:img|script|link|iframe|source)\b[^>]*?\b(?:src|href)="([^"]*)"', text)
    assert len(sources) == 6  # five pictures, and no icon
    assert all(source.startswith("data:") for source in sources)
    assert not re.search(r"url\(|@import", text)
    for uri in sources:
        if uri != "data:,":
            with Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))) as image:
                assert image.format == "PNG"


def test_odd_names_are_words(text: str) -> None:
    assert "a<b>" not in text
    assert words(text).count(ODD) >= 4  # sentence twice, caption, arm, detail
    assert f"repa: {ODD}" in words(text)


def test_every_run_once(text: str) -> None:
    names = re.findall(r'<tr data-run="([^"]*)"', text)
    assert sorted(names) == ["failed", "gone", "many10", "many9", "shared"]
    rows = dict(zip(names, (words(row) for row in text.split("<tr data-run=")[1:]), strict=True))
    assert "mng: plain" in rows["shared"]
    assert "repa: a<b>" in rows["shared"]
    assert "diverged from step 31: not finite" in rows["gone"]
    assert "012345678 + changes" in rows["gone"]
    assert "50.25" in rows["shared"]
    assert "50.25" not in rows["gone"]


def test_what_it_cost_and_when(text: str) -> None:
    """1,800 s of 4 processes, once, and 3 times 900 s of one; the failed run is not known."""
    told = words(text)
    assert "Computing 2.8 process-hours" in told  # 2 + 3 / 4 hours
    assert "Newest run 22 November 2025" in told
    assert "Runs 5 " in told
    assert "012345678 (3 runs), 012345678 + changes (1 run)" in told


def test_what_is_missing_and_how_it_was_measured(text: str) -> None:
    told = words(text)
    assert "mng: many, seed 3" in told
    assert "mng: plain: 1 of 3 seeds" in told
    assert f"Protocol {PROTOCOL.id}" in told
    assert "of mng, repa" in told
    assert "Mind the scale. Studies mini, cifar10 are not run at the paper's scale" in told


def test_claims(text: str) -> None:
    told = words(text)
    assert "1 confirmed, 1 refuted, 1 undecided, 1 not run of 4 claims" in told
    assert "in order, best first: exponential; none (decides) difference 11" in told
    assert "FID of S/2 after 50K iterations, with MNG: about 15 (v1)" in told
    assert told.count("Claim or rule changed between submissions") == 1


def test_links_lead_somewhere(text: str) -> None:
    names = re.findall(r'\bid="([^"]*)"', text)
    assert len(names) == len(set(names))
    assert set(re.findall(r'href="#([^"]*)"', text)) <= set(names)


def test_equal_results_equal_page(tmp_path: Path, text: str) -> None:
    assert write_all(tmp_path).read_text() == text


def test_without_results(tmp_path: Path) -> None:
    assert "There are no results yet." in write_report(tmp_path, {}, {}).read_text()


def test_what_cannot_be_read_or_written(tmp_path: Path) -> None:
    write_results(tmp_path, "mng", run_rows("plain", 0, CURVE))
    broken = tmp_path / "mini" / "figures" / "mng.png"
    save_png(broken)
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(UserError, match=r"mng\.png: is no whole PNG"):
        write_report(tmp_path, {}, {})
    broken.unlink()
    (tmp_path / "report.html").mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        write_report(tmp_path, {}, {})
    (tmp_path / "mini" / "mng.json").write_text("{")
    with pytest.raises(UserError, match="is no whole table"):
        write_report(tmp_path, {}, {})


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
        in_order = ["confirmed", "refuted", "undecided", "not run"]
        seeds.click()
        assert column(table, 4) == ["0 of 12", "9 of 12", "10 of 12", "11 of 12"]
        verdict.focus()
        it.page.keyboard.press("Enter")
        assert column(table, 5) == in_order
        assert table.locator("[aria-sort]").all_inner_texts() == ["verdict"]
        assert table.locator("th").nth(4).get_attribute("aria-sort") == "ascending"
        it.page.keyboard.press("Enter")
        assert column(table, 5) == in_order[::-1]
        assert table.locator("th").nth(4).get_attribute("aria-sort") == "descending"
        table.get_by_role("button", name="ours").click()
        assert column(table, 3) == ["difference 9", "difference 10", "difference 11", "n/a"]
        table.get_by_role("button", name="ours").click()
        assert column(table, 3) == ["difference 11", "difference 10", "difference 9", "n/a"]
        table.get_by_role("button", name="claim").click()
        assert [one.split()[0] for one in column(table, 1)] == ["lr_grid", "mng", "model_size", "repa"]


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
