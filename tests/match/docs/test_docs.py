"""Pages of the documentation are listed, their links lead somewhere, the files they name exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FOLDER_PAGES = sorted(
    path
    for folder in ("arena", "agents", "envs", "tests")
    for path in (ROOT / folder).rglob("README.md")
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
FILE = re.compile(r"`((?:[\w.-]+/)*[\w-]+(?:\.py|\.toml|\.md|/))`")


def name(path):
    return str(path.relative_to(ROOT))


def anchors(page):
    """Anchors of a page's headings, as hosts of Markdown make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in headings}


def test_the_index_lists_every_page_once():
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    listed = sorted(link for link in LINK.findall(index) if not link.startswith("../"))
    assert listed == sorted(page.name for page in (ROOT / "docs").glob("*.md")
                            if page.name != "README.md")  # fmt: skip


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_relative_link_of_a_page_leads_somewhere(page):
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


@pytest.mark.parametrize(
    "page", [ROOT / "CONTRIBUTING.md", ROOT / "docs" / "architecture.md"], ids=name
)
def test_every_file_that_a_guide_names_exists(page):
    named = FILE.findall(page.read_text(encoding="utf-8"))
    assert named
    assert [file for file in named if not (ROOT / file).exists()] == []


@pytest.mark.parametrize("page", FOLDER_PAGES, ids=name)
def test_a_folders_page_is_five_lines_of_files_that_exist(page):
    text = page.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 5
    named = FILE.findall(text)
    assert named
    assert [file for file in named if not (page.parent / file).exists()] == []
