"""What the documentation shows as Python runs as it stands, and what it names is there."""

import re
from pathlib import Path

import pytest

from medgan import losses
from medgan.recipes import RECIPES

ROOT = Path(__file__).resolve().parent.parent
RECIPES_PAGE = ROOT / "docs" / "recipes.md"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _blocks() -> list[str]:
    return BLOCK.findall(RECIPES_PAGE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("block", _blocks(), ids=lambda block: " ".join(block.split())[:60])
def test_an_example_runs(block: str) -> None:
    exec(compile(block, "docs/recipes.md", "exec"), {"__name__": "example"})


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_described(name: str) -> None:
    assert re.search(rf"^#+ .*`?{name}\b", RECIPES_PAGE.read_text(encoding="utf-8"), re.MULTILINE), name


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_what_a_page_outside_the_site_links_is_there(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / page).read_text(encoding="utf-8")):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_the_readme_can_be_read_in_two_minutes() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 110


def test_every_loss_has_its_equation() -> None:
    page = (ROOT / "docs" / "mathematics.md").read_text(encoding="utf-8")
    functions = [name for name in losses.__all__ if name.islower() and name != "one_sided"]
    for name in (*losses.OBJECTIVES, *functions):
        _, heading, rest = page.partition(f"\n### {name}\n")
        assert heading, name
        assert "$$" in rest.partition("\n### ")[0], name
    assert "(`one_sided`)" in page


def test_the_mathematics_has_every_recipe() -> None:
    page = (ROOT / "docs" / "mathematics.md").read_text(encoding="utf-8")
    assert not [name for name in RECIPES if f"`{name}`" not in page]


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.stem)
def test_commands_that_a_page_shows_exist(page: Path) -> None:
    blocks = re.findall(r"^```(?:bash)?\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    words = [word for block in blocks for word in block.split()]
    for word in words:
        if re.fullmatch(r"(configs|scripts|pipelines|container)/[\w./]+\.(yaml|py|def)", word):
            assert (ROOT / word).exists(), f"{page.name}: {word}"
