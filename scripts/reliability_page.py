"""docs/results/reliability.md from its parts: every JSON file in docs/results/reliability is one section.

    python scripts/reliability_page.py

A study writes its part by `write_section`, and the page again. Parts do not know each other: they are ordered by
`order`, and the page is made of what is there.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[1] / "docs/results"
_HEAD = """# Nothing breaks, nothing is lost

<!-- Written by scripts/reliability_page.py from the files in docs/results/reliability/. -->

What was tried to break medgan, and what became of it. Each section names its command; the numbers behind it lie in
`docs/results/reliability/`.
"""


def write_section(
    name: str,
    *,
    order: int,
    title: str,
    command: str,
    blocks: Sequence[str | Mapping[str, Any]],
    numbers: Mapping[str, Any],
    packages: Sequence[str] = ("numpy",),
    results: Path = RESULTS,
) -> None:
    """Write one part, `reliability/<name>.json`, and the page anew.

    Args:
        name: of the file.
        order: sections stand in this order.
        title: of the section.
        command: that gives these numbers again, without absolute paths.
        blocks: paragraphs of Markdown, and tables: {"columns": [...], "rows": [[...], ...]}.
        numbers: all that was measured, for whoever wants to look closer.
        packages: whose versions are told.
        results: folder of the page.
    """
    section = {
        "order": order,
        "title": title,
        "command": command,
        "environment": {
            "python": platform.python_version(),
            **{package: _version(package) for package in packages},
            "platform": f"{platform.system()} {platform.machine()}",
        },
        "blocks": list(blocks),
        "numbers": dict(numbers),
    }
    folder = results / "reliability"
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(section, indent=1, ensure_ascii=False)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    write_page(results)


def write_page(results: Path = RESULTS) -> None:
    """Write `reliability.md` in `results` from the sections in the folder `reliability` there."""
    files = sorted((results / "reliability").glob("*.json"))
    sections = sorted((json.loads(file.read_text(encoding="utf-8")) for file in files), key=lambda one: one["order"])
    page = "\n".join([_HEAD, *map(_section, sections)])
    (results / "reliability.md").write_text(page, encoding="utf-8")


def _section(section: Mapping[str, Any]) -> str:
    blocks = [block if isinstance(block, str) else _table(block) for block in section["blocks"]]
    known = ", ".join(f"{name} {number}" for name, number in section["environment"].items() if name != "platform")
    made = f"`{section['command']}`; {known}; {section['environment']['platform']}."
    return "\n\n".join([f"## {section['title']}", *blocks, made]) + "\n"


def _table(table: Mapping[str, Any]) -> str:
    rows = [table["columns"], ["---"] * len(table["columns"]), *table["rows"]]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


if __name__ == "__main__":
    write_page()
