"""Put the line numbers of docs/tour.md right: `python tests/support/tour.py`, from `make reference`."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
STOP = re.compile(r"\[`([\w.]+)`\]\(\.\./([^)#\s]+)#L(\d+)\)")


def line_of(name, path):
    """The line of a function, or of a class's method, in a file of the repository."""
    *owner, own = name.split(".")
    lines = (ROOT / path).read_text().splitlines()
    begin = line_of(owner[0], path) if owner else 0
    for number, line in enumerate(lines[begin:], begin + 1):
        if re.match(rf"\s*(def|class) {own}\b", line):
            return number
    raise SystemExit(f"docs/tour.md: there is no {name} in {path}; correct the page")


def corrected(text):
    """The page with the lines where things are now."""
    return STOP.sub(lambda m: f"[`{m[1]}`](../{m[2]}#L{line_of(m[1], m[2])})", text)


if __name__ == "__main__":
    page = ROOT / "docs/tour.md"
    page.write_text(corrected(page.read_text()))
