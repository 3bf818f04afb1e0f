"""The documentation as a site: every link leads somewhere, nothing comes from elsewhere, formulas need no script."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    quiet = {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | quiet)
    assert built.returncode == 0, built.stdout + built.stderr
    assert "WARNING" not in built.stdout + built.stderr
    return folder


class _Fetched(HTMLParser):
    """What a browser loads by itself when it opens a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if given.get("rel") not in ("canonical", "next", "prev"):
            self.found.append(given.get(FETCHED.get(tag, ""), "") or "")


def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        parser = _Fetched()
        parser.feed(page.read_text(encoding="utf-8"))
        elsewhere = [address for address in parser.found if re.match(r"(https?:)?//", address)]
        assert not elsewhere, f"{page.relative_to(site)}: {elsewhere}"
    for style in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", style.read_text(encoding="utf-8")), style


def test_formulas_are_mathml_when_the_site_is_built(site: Path) -> None:
    page = (site / "mathematics.html").read_text(encoding="utf-8")
    assert page.count('display="block"') > 15
    assert 'class="arithmatex"' not in page


def test_every_recipe_and_every_option_is_in_the_reference(site: Path) -> None:
    from medgan.recipes import RECIPES

    options = (site / "configuration.html").read_text(encoding="utf-8")
    classes = (site / "api" / "recipes.html").read_text(encoding="utf-8")
    for name, target in RECIPES.items():
        assert f"recipe: {name}</h2>" in re.sub(r"<a class=\"headerlink.*?</a>", "", options)
        assert f'id="{target.__module__}.{target.__name__}"' in classes
    assert "<code>train.num_steps</code>" in options
