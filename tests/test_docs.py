"""What the documentation shows as Python runs as it stands."""

import re
from pathlib import Path

import pytest

from medgan.recipes import RECIPES

RECIPES_PAGE = Path(__file__).resolve().parent.parent / "docs" / "recipes.md"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _blocks() -> list[str]:
    return BLOCK.findall(RECIPES_PAGE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("block", _blocks(), ids=lambda block: " ".join(block.split())[:60])
def test_an_example_runs(block: str) -> None:
    exec(compile(block, "docs/recipes.md", "exec"), {"__name__": "example"})


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_described(name: str) -> None:
    assert re.search(rf"^#+ .*`?{name}\b", RECIPES_PAGE.read_text(encoding="utf-8"), re.MULTILINE), name
