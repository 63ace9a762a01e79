"""The page about all studies: what it says (in a browser: tests/test_report_in_browser.py)."""

import base64
import io
import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from analysis.figures import CAPTIONS, draw_all
from analysis.report import write_report
from analysis.report.claims import WORDS, words_of
from analysis.report.pictures import read_picture
from experiments.study.claims import KINDS, OPTIONAL
from gat.errors import UserError
from tests.made_up import PROTOCOL, run_rows, write_results
from tests.made_up_page import CURVE, ODD, REMARK, save_png, write_all


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_all(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def text(report: Path) -> str:
    return report.read_text()


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
            with Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/webp;base64,")))) as image:
                assert image.format == "WEBP"


def test_pictures_are_made_small(tmp_path: Path) -> None:
    """To 1,200 pixels, and to a tenth of noise's bytes."""
    noise = np.random.default_rng(0).integers(256, size=(600, 2400, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    one = read_picture(tmp_path / "a.png", "a", None)
    assert (one.width_px, one.height_px, one.wide) == (2400, 600, True)
    with Image.open(io.BytesIO(base64.b64decode(one.uri.partition(",")[2]))) as image:
        assert image.size == (1200, 300)
    assert len(one.uri) < (tmp_path / "a.png").stat().st_size / 10


def test_the_committed_page_is_small() -> None:
    assert (Path(__file__).parents[1] / "results" / "report.html").stat().st_size < 3e6


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
    assert "1 confirmed, 1 refuted, 2 undecided, 1 not run of 5 claims" in told
    assert "in order, lowest first: exponential; none (decides) difference 11" in told
    assert "FID of S/2 after 50K iterations, with MNG: about 15 (v1)" in told


def test_links_lead_somewhere(text: str) -> None:
    names = re.findall(r'\bid="([^"]*)"', text)
    assert len(names) == len(set(names))
    assert set(re.findall(r'href="#([^"]*)"', text)) <= set(names)


def test_every_claim_has_a_section_of_its_own(text: str) -> None:
    links = re.findall(r'<th role="rowheader"[^>]*><a href="#([^"]*)">([^<]*)</a>', text)
    assert len(links) == len({anchor for anchor, _ in links}) == 5
    for anchor, claim in links:
        assert f'id="{anchor}">\n<h4><code>{claim}</code>' in text


def test_remarks_stand_beside_the_verdict_and_with_the_claim(text: str) -> None:
    row = next(row for row in text.split('<tr role="row">') if ">layer_use</a>" in row)
    section = text.split("<h4><code>layer_use</code>")[1].split("</article>")[0]
    assert f"undecided {REMARK}" in words(row)
    assert REMARK in words(section)
    assert words(text).count(REMARK) == 2


def test_the_rule_stands_in_the_table(text: str) -> None:
    """The tests that decide, and no other."""
    rules = [words(rule) for rule in re.findall(r'data-label="rule"[^>]*>(.*?)</td>', text, flags=re.DOTALL)]
    assert rules == ["in order, lowest first: exponential; none"] * 5


VALUES = {"arms": ["one", "two"], "studies": ["mini"], "of": "other_metric"}


def test_every_kind_of_test_has_words() -> None:
    assert WORDS.keys() == KINDS.keys()
    for kind, needed in KINDS.items():
        for names in (needed, needed | OPTIONAL.get(kind, set())):
            told = words_of({"kind": kind, "decides": True} | {name: VALUES.get(name, 0.25) for name in names})
            assert not told.startswith(f"{kind} ("), told
            assert ("one; two" in told) == ("arms" in names)
            assert ("other_metric" in told) == ("of" in names)
            assert ("at scale mini alone" in told) == ("studies" in names)
            assert ("equivalent within a ratio of 0.25" in told) == ("equivalent" in names)
    assert words_of({"kind": "new", "decides": True, "more": 1}) == "new (more 1)"


def test_figures_without_a_caption_are_left_out(text: str) -> None:
    assert re.findall(r'alt="Figure: ([^"]*)"', text) == ["mng", "quo&#39;ted"]


def test_a_figure_of_older_tables_says_so(tmp_path: Path, text: str) -> None:
    assert text.count("Drawn from older tables") == 0
    assert text.count("does not say which tables") == 1  # the other one
    page = write_all(tmp_path)
    table = tmp_path / "mini" / "mng.csv"
    table.write_text(table.read_text() + "\n")
    page = write_report(tmp_path, {}, {"mng": "caption"})
    assert "Drawn from older tables: python analysis/figures.py study=mini figures=mng" in page.read_text()


def test_a_figure_as_it_is_drawn_needs_no_warning(tmp_path: Path) -> None:
    rows = [row for arm in ("aligned", "not_aligned") for seed in range(3) for row in run_rows(arm, seed, CURVE)]
    write_results(tmp_path, "repa", rows)
    draw_all({"results": str(tmp_path), "figures": "repa"})
    assert 'class="stale"' not in write_report(tmp_path, {}, CAPTIONS).read_text()
    write_results(tmp_path, "repa", rows[:-1])
    assert 'class="stale"' in write_report(tmp_path, {}, CAPTIONS).read_text()


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
        write_report(tmp_path, {}, {"mng": "a caption"})
    broken.unlink()
    (tmp_path / "report.html").mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        write_report(tmp_path, {}, {})
    (tmp_path / "mini" / "mng.json").write_text("{")
    with pytest.raises(UserError, match="not a whole table"):
        write_report(tmp_path, {}, {})
