"""What MkDocs does beside its own work when it builds the site.

The pages ``contributing`` and ``changelog`` come from the files of these names in the root of the
repository. ``llms.txt`` lists all pages with their first paragraphs, and each page is in the site as
Markdown too, for programs that read text.
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

_pages: dict[str, str] = {}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that stand in the root; their links into ``docs`` become links beside them."""
    for name in _FROM_ROOT:
        text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
        files.append(File.generated(config, name.lower(), content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Keep the Markdown of each page."""
    _pages[page.file.src_uri] = markdown
    return markdown


def on_nav(nav: Navigation, config: MkDocsConfig, files: Files) -> Navigation:
    """Begin a new site: a server builds it many times."""
    _pages.clear()
    return nav


def on_post_build(config: MkDocsConfig) -> None:
    """Write ``llms.txt`` and the pages' Markdown into the site."""
    site = Path(config.site_dir)
    lines = [f"# {config.site_name}", "", f"> {config.site_description}", "", "## Pages", ""]
    for uri, markdown in _pages.items():
        title = markdown.splitlines()[0].removeprefix("# ")
        lines.append(f"- [{title}]({uri}): {_summary(markdown)}")
        target = site / uri
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(markdown, encoding="utf-8")
    (site / "llms.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _summary(markdown: str) -> str:
    found = _FIRST_PARAGRAPH.match(markdown)
    return " ".join(found["text"].split()) if found else ""
