"""A figure that can be taken away: drawn, with the numbers behind it, and what it shows in words."""

import csv
from base64 import b64encode
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from markupsafe import Markup, escape
from matplotlib.figure import Figure

from pipeline.data.store import replacing, write_text

Cell = str | int | float | None
SMALLEST = 0.6  # of its own width: smaller, the text of a figure cannot be read; a narrow screen scrolls
PIXELS = 96  # per inch, of a browser
FORMATS = ("csv", "pdf", "svg")


class Drawn(NamedTuple):
    """A figure, the table of what is drawn in it, and in words what it shows, for who cannot see it.

    ``note`` is for all readers, beside the caption of the page.
    """

    figure: Figure
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    alt: str
    note: str = ""


def save(drawn: Drawn, folder: Path, name: str) -> str:
    """Write a figure as SVG, as PDF for a paper, and its numbers as CSV; return the SVG.

    The same numbers make the same files, byte for byte.
    """
    svg = _svg(drawn.figure)
    drawn.figure.set_layout_engine("none")  # as it has been laid out, which takes longer than drawing
    write_text(folder / f"{name}.svg", svg)
    write_text(folder / f"{name}.csv", table(drawn))
    with replacing(folder / f"{name}.pdf") as temporary:
        drawn.figure.savefig(temporary, format="pdf", metadata={"CreationDate": None})
    return svg


def table(drawn: Drawn) -> str:
    """Return the numbers of a figure as CSV with a header; floats keep all their bits, what is missing is empty."""
    stream = StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(drawn.columns)
    writer.writerows(drawn.rows)
    return stream.getvalue()


def embedded(drawn: Drawn, svg: str, folder: str, name: str) -> Markup:
    """Return a figure as HTML that needs nothing else, with links to its files.

    Args:
        folder: where the files are, as seen from the page.
    """
    links = ", ".join(
        f'<a href="{quote(f"{folder}/{name}.{kind}")}" aria-label="{escape(name)} as {kind.upper()}">{kind.upper()}</a>'
        for kind in FORMATS
    )
    note = f"{escape(drawn.note)} " if drawn.note else ""
    return Markup(  # every text in it is escaped
        f'{_image(drawn, svg)}<p class="files">{note}Numbers and figure: {links}</p>'
    )


def image(drawn: Drawn) -> Markup:
    """Return a figure as HTML, without files."""
    return _image(drawn, _svg(drawn.figure))


def _image(drawn: Drawn, svg: str) -> Markup:
    least = SMALLEST * PIXELS * float(drawn.figure.get_size_inches()[0])
    return Markup(
        f'<div class="scroll"><img style="min-width: {least:.0f}px" alt="{escape(drawn.alt)}" '
        f'src="data:image/svg+xml;base64,{b64encode(svg.encode()).decode()}"></div>'
    )


def _svg(figure: Figure) -> str:
    stream = StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()
