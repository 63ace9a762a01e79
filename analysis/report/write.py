"""Write ``results/report.html``: one page without any request to elsewhere, to be read on screens, phones and paper.

Equal results give an equal page: it bears the date of the newest run and none of its own.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from analysis.judging import Judged
from analysis.report.claims import paper_numbers
from analysis.report.runs import commits_of, hardware_of, newest, number_text, total_hours
from analysis.report.studies import PAPER_SCALE, Study, slug, studies_of
from gat.files import replacing, told

FILE = "report.html"
PARTS = Path(__file__).parent
PROTOCOL_WORDS = {
    "samples": "generated images",
    "image_px": "side of the images, in pixels",
    "extractor": "features, with a checksum of their weights",
    "reference": "real images",
    "decoder": "decoder of the latents",
    "truncation": "truncation psi (0: off)",
    "to_uint8": "conversion to grey levels",
    "covariance": "covariance divided by",
    "labels": "classes asked for",
}


def write_report(results: Path, studies: Mapping[str, Sequence[Judged]], captions: Mapping[str, str]) -> Path:
    """Write the page about all studies of ``results``; its file.

    ``studies``: the judged claims by study (others with tables are shown without claims). ``captions``: of figures and
    pictures, by file name without suffix. Raises :class:`gat.errors.UserError` for a table or a picture that cannot be
    read, and if the page cannot be written.
    """
    page = render(studies_of(results, studies, captions))
    file = results / FILE
    with told(f"report {file}", "write it again"), replacing(file) as stream:
        stream.write(page.encode(errors="replace"))
    return file


def render(studies: Sequence[Study]) -> str:
    """The page."""
    parts = Environment(
        loader=FileSystemLoader(PARTS), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    parts.filters |= {"number": number_text, "slug": slug, "paper": paper_numbers}
    runs = list({run.name: run for study in studies for run in study.runs}.values())
    facts: dict[str, Any] = {
        "runs": len(runs),
        "newest": newest(runs),
        "commits": commits_of(runs),
        "hardware": hardware_of(runs),
        "hours": total_hours(runs),
    }
    return parts.get_template("page.html.jinja").render(
        studies=studies,
        facts=facts,
        small=[study.name for study in studies if study.name != PAPER_SCALE],
        protocol_words=PROTOCOL_WORDS,
        style=Markup((PARTS / "style.css").read_text(encoding="utf-8")),
        script=Markup((PARTS / "sort.js").read_text(encoding="utf-8")),
    )
