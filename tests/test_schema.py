"""The JSON Schema: what editors complete and mark by, in the files that are shipped."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from medgan.config import StrictModel
from medgan.schema import json_schema

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


@pytest.fixture(scope="module")
def chore() -> Iterator[ModuleType]:
    sys.path.insert(0, str(ROOT / "scripts"))
    import schema

    yield schema
    sys.path.remove(str(ROOT / "scripts"))
    sys.modules.pop("schema")


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = json.loads((ROOT / "configs" / "experiment.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def test_the_schema_and_the_editors_lines_are_up_to_date(chore: ModuleType) -> None:
    late = [path.name for path, text in chore.wanted().items() if path.read_text(encoding="utf-8") != text]
    assert not late, f"run `python scripts/schema.py`, which writes anew: {late}"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_an_editor_marks_nothing_in_what_is_shipped(path: Path, validator: Draft202012Validator) -> None:
    validator.validate(yaml.safe_load(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("train", {"num_step": 5}),
        ("train", {"num_steps": "many"}),
        ("recipe", {"name": "cyclegan", "lambda_cycl": 10.0}),
        ("recipe", {"name": "cyclegan", "generator_net": {"name": "unet", "chanels": 8}}),
        ("recipe", "cycelgan"),
    ],
)
def test_an_editor_marks_a_mistake(section: str, values: Any, validator: Draft202012Validator) -> None:
    right = yaml.safe_load((ROOT / "configs" / "sts_cyclegan.yaml").read_text(encoding="utf-8"))
    assert validator.is_valid(right)
    assert not validator.is_valid(right | {section: values})


def test_what_stands_twice_is_written_once() -> None:
    class Inner(StrictModel):
        first: int = 1
        second: int = 2
        third: float = 0.5
        fourth: str = "a long enough default that naming this part is worth it"

    part = {"title": "Part of it", **Inner.model_json_schema()} | {"title": "Part of it"}

    class Outer(StrictModel):
        @classmethod
        def model_json_schema(cls, *arguments: Any, **options: Any) -> dict[str, Any]:
            return {"title": "Outer", "properties": {"a": part, "b": part, "c": {"type": "integer"}}}

    schema = json_schema(Outer)
    reference = {"$ref": "#/$defs/Part_of_it"}
    assert schema["properties"] == {"a": reference, "b": reference, "c": {"type": "integer"}}
    assert schema["$defs"]["Part_of_it"] == part
