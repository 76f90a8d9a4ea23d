"""Hooks of MkDocs: pages that live outside of docs/, and links that lead there.

The repository's own pages (README, CONTRIBUTING, CHANGELOG, the table of keys) become pages of the site. Every other
file that a page links, such as a module or a profile, is copied into the site as it is.
"""

import logging
import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

logger = logging.getLogger("mkdocs.plugins.pages")  # its warnings are those of MkDocs
ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "config/README.md": "keys.md",
}
COPIES = "files"  # the folder of the site for everything that is no page
LINK = re.compile(r"(?<=\]\()(?!\w+:)([^)#\s]+)(?=[)#])")
HREF = re.compile(r'href="(?!\w+:)([^"#]+\.md)')
LINES = re.compile(r"(?<=\.py)#L\d+(?=\))")  # GitHub's anchors of lines; the copy of a file has none


def on_files(files, config):
    """Add the pages from outside of docs/ and the files that pages link."""
    linked = set()
    for source in [*PAGES, *(f"docs/{file.src_uri}" for file in files.documentation_pages())]:
        if source.endswith(".md"):
            text = (ROOT / source).read_text(encoding="utf-8")
            linked |= {_path(source, link) for link in LINK.findall(text)}
    for path in sorted(linked):
        if path not in PAGES and files.get_file_from_path(_place(path)) is None and (ROOT / path).is_file():
            files.append(File.generated(config, _place(path), content=(ROOT / path).read_bytes()))
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown, page, **_):
    """Turn the links of the repository into those of the site."""
    sources = {own: source for source, own in PAGES.items()}
    source = sources.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    here = posixpath.dirname(page.file.src_uri)
    return LINK.sub(
        lambda link: posixpath.relpath(_place(_path(source, link[1])), here or "."), LINES.sub("", markdown)
    )


def on_page_content(html, page, files, **_):
    """Turn the links of a notebook, which is HTML by now, into those of the site."""
    source = f"docs/{page.file.src_uri}"

    def linked(link):
        found = files.get_file_from_path(_place(_path(source, link[1])))
        if found is None:
            logger.warning(f"{source} links {link[1]}, which is no page")
            return link[0]
        return f'href="{found.url_relative_to(page.file)}'

    return HREF.sub(linked, html) if source.endswith(".ipynb") else html


def _path(source, link):
    """Return what a link of a file leads to, from the repository's root."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), link))


def _place(path):
    """Return where a file of the repository is in the site."""
    inside = path.startswith("docs/") and not path.endswith(".json")
    return PAGES.get(path, path.removeprefix("docs/") if inside else f"{COPIES}/{path}")
