"""The JSON Schema that editors check the configurations by: written anew, and named at the head of each.

    python3 scripts/schema.py

A file in `configs/` then begins with the line from which editors with a YAML language server complete keys, show their
meaning and mark mistakes. Returns 1 where something was changed, so that a hook before a commit can say so.
"""

from __future__ import annotations

import json
from pathlib import Path

from environment import ROOT, enter

CONFIGS = ROOT / "configs"
SCHEMA = CONFIGS / "experiment.schema.json"
EDITOR_LINE = f"# yaml-language-server: $schema={SCHEMA.name}\n"


def main() -> int:
    """Write what is out of date; 1 if anything was."""
    code = 0
    for path, text in wanted().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"written: {path.relative_to(ROOT)}")
            code = 1
    return code


def wanted() -> dict[Path, str]:
    """The schema, and every configuration with the line at its head: what the files should hold."""
    from medgan.experiment import Experiment
    from medgan.schema import json_schema

    texts = {SCHEMA: json.dumps(json_schema(Experiment), indent=1) + "\n"}
    for path in sorted(CONFIGS.glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        texts[path] = text if text.startswith(EDITOR_LINE) else EDITOR_LINE + text
    return texts


if __name__ == "__main__":
    enter()
    raise SystemExit(main())
