"""The documentation builds as a website, without warnings and without the network."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import specfuse_core
from specfuse_core import errors

ROOT = Path(specfuse_core.__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    return folder


class Loaded(HTMLParser):
    """Addresses that a browser loads when it shows a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "img", "iframe"):
            self.addresses.append(given.get("src") or "")
        if tag == "link" and given.get("rel") != "canonical":
            self.addresses.append(given.get("href") or "")


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        loaded = Loaded()
        loaded.feed(page.read_text(encoding="utf-8"))
        assert loaded.addresses
        assert not [address for address in loaded.addresses if re.match(r"https?:|//", address)]
    for style in site.rglob("*.css"):
        assert not re.search(r"@import|url\(['\"]?https?:", style.read_text(encoding="utf-8"))


def test_llms_txt_lists_every_page(site: Path) -> None:
    listed = (site / "llms.txt").read_text(encoding="utf-8")
    assert listed.startswith("# specfuse\n\n> One chat model made out of several")
    entries = re.findall(r"^- \[([^\]]+)\]\((\S+)\): (.*)$", listed, re.MULTILINE)
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md")}
    assert [uri for _, uri, _ in entries][:2] == ["index.md", "getting-started.md"]
    assert {uri for _, uri, _ in entries} == pages | {"contributing.md", "changelog.md"}
    for title, uri, summary in entries:
        text = (site / uri).read_text(encoding="utf-8")
        assert text.startswith(f"# {title}\n")
        assert len(summary) > 40


def test_the_api_reference_has_the_members_of_the_engine_and_all_errors(site: Path) -> None:
    engine = (site / "api" / "core" / "index.html").read_text(encoding="utf-8")
    for name in ("stream", "generate", "astream", "agenerate", "from_pretrained", "from_models"):
        assert f'id="specfuse_core.FusionEngine.{name}"' in engine
    tree = (site / "api" / "errors" / "index.html").read_text(encoding="utf-8")
    for name in errors.__all__:
        assert f'id="specfuse_core.errors.{name}"' in tree


@pytest.mark.parametrize(
    ("docstring", "markdown"),
    [
        ("See :meth:`stream` and :class:`~a.B`.", "See `stream` and `a.B`."),
        ("The tree::\n\n    A\n", "The tree:\n\n    A\n"),
        ("Text.\n\nExample:\n    >>> 1\n    1", "Text.\n\nExamples:\n    >>> 1\n    1"),
        (
            "Key init args (models):\n    a, b:\n        Names.\n\nInvoke:\n    else:\n",
            "Key init args - models:\n    - `a, b`:\n        Names.\n\nInvoke:\n    else:\n",
        ),
    ],
)
def test_docstrings_become_markdown(docstring: str, markdown: str) -> None:
    as_markdown = runpy.run_path(str(ROOT / "docs" / "docstrings.py"))["as_markdown"]
    assert as_markdown(docstring) == markdown


def test_docstrings_are_shown_without_sphinx_roles(site: Path) -> None:
    for page in site.glob("api/**/*.html"):
        assert not re.search(r":(?:meth|class|attr|func|mod):", page.read_text(encoding="utf-8"))
