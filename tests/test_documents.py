"""All pages: links lead somewhere, and what is made by a command is up to date."""

import re
from functools import cache
from pathlib import Path

import pytest

from docs import make_api

ROOT = Path(__file__).parents[1]
PAGES = [
    *ROOT.glob("*.md"),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]


@cache
def anchors(page: Path) -> set[str]:
    """What can be linked to in a page: its headings, as GitHub names them."""
    headings = re.findall(
        r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE
    )
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
    return {f"{name}-{plain[:i].count(name)}".removesuffix("-0") for i, name in enumerate(plain)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        leads = (page.parent / path).resolve() if path else page
        assert leads.exists(), f"{page.name}: {target}"
        assert not anchor or leads.suffix != ".md" or anchor in anchors(leads), f"{page.name}: {target}"


def test_the_api_page_is_up_to_date():
    assert make_api.PAGE.read_text() == make_api.page(), "run `python -m docs.make_api`"


def test_every_public_name_is_on_the_api_page():
    import paramdiff

    text = make_api.PAGE.read_text()
    assert all(f"\n## paramdiff.{name}\n" in text for name in paramdiff.__all__)
