"""Hooks of MkDocs, called while it builds the site.

They make the pages ``contributing`` and ``changelog`` from the files in the root of the repository.
They also write ``llms.txt``, which lists all pages with their first paragraphs, and the Markdown of
each page, for programs that read text.
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Navigation
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
_FROM_ROOT = ("CONTRIBUTING.md", "CHANGELOG.md")
_FIRST_PARAGRAPH = re.compile(r"^# [^\n]+\n\n(?P<text>.+?)\n\n", re.DOTALL)

_pages: list[Page] = []


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages whose files are in the root; links into ``docs`` become links beside them."""
    for name in _FROM_ROOT:
        text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
        files.append(File.generated(config, name.lower(), content=text))
    return files


def on_nav(nav: Navigation, config: MkDocsConfig, files: Files) -> Navigation:
    """Keep the pages, in the order of the navigation."""
    _pages[:] = nav.pages
    return nav


def on_post_build(config: MkDocsConfig) -> None:
    """Write ``llms.txt`` and the pages' Markdown into the site."""
    site = Path(config.site_dir)
    lines = [f"# {config.site_name}", "", f"> {config.site_description}", "", "## Pages", ""]
    for page in _pages:
        uri, markdown = page.file.src_uri, page.markdown or ""
        lines.append(f"- [{_title(markdown)}]({uri}): {_summary(markdown)}")
        target = site / uri
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(markdown, encoding="utf-8")
    (site / "llms.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _title(markdown: str) -> str:
    return markdown.splitlines()[0].removeprefix("# ")


def _summary(markdown: str) -> str:
    found = _FIRST_PARAGRAPH.match(markdown)
    return " ".join(found["text"].split()) if found else ""
