"""Strict configuration: every mistake is named in one line, with its place and the way out."""

from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from pydantic import Field

from medgan.config import Component, InputError, StrictModel, bind, component, read_yaml, suggest, validate, write_yaml


class Net:
    """A network. With a second sentence."""

    def __init__(
        self,
        spatial_dims: int,
        *,
        channels: Annotated[int, Field(gt=0, description="channels of the first level")] = 16,
        norm: str = "instance",
    ) -> None:
        self.spatial_dims, self.channels, self.norm = spatial_dims, channels, norm


NETS = {"net": Net, "plain": lambda spatial_dims: None}


class Game:
    """A recipe with a network."""

    def __init__(
        self,
        *,
        num_classes: Annotated[int, Field(ge=2)],
        network: Annotated[component(NETS, "network"), Field(description="its net")] = Component(name="net"),  # type: ignore[valid-type]
        lr: float = 2e-4,
    ) -> None:
        self.num_classes, self.network, self.lr = num_classes, network, lr


GAMES = {"game": Game}


class Augment(StrictModel):
    flip: bool = True


class Train(StrictModel):
    num_steps: int = Field(10, gt=0, description="steps")
    patch_size: tuple[int, int, int] = (8, 8, 8)
    augment: Augment | None = Augment()


class Study(StrictModel):
    recipe: component(GAMES, "recipe")  # type: ignore[valid-type]
    train: Train = Train()
    folder: Path | None = None
    steps: dict[str, Train] = Field({})


def _mistake(values: Any) -> str:
    with pytest.raises(InputError) as caught:
        validate(Study, values)
    message = str(caught.value)
    assert "\n" not in message
    return message


def _yaml(folder: Path, text: str) -> Path:
    path = folder / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"recpe": "game"}, "recpe: unknown key; did you mean 'recipe'?"),
        ({"recipe": "game", "train": {"num_stps": 5}}, "train.num_stps: unknown key; did you mean 'num_steps'?"),
        ({"train": {"augment": {"flp": 1}}}, "train.augment.flp: unknown key; did you mean 'flip'?"),
        ({"steps": {"first": {"zzz": 1}}}, "steps.first.zzz: unknown key; known: augment, num_steps, patch_size"),
        ({"recipe": {"name": "game", "num_clases": 3}}, "recipe.num_clases: unknown key; did you mean 'num_classes'?"),
        (
            {"recipe": {"name": "game", "num_classes": 3, "network": {"name": "net", "chanels": 4}}},
            "recipe.network.chanels: unknown key; did you mean 'channels'?",
        ),
        ({"recipe": "gmae"}, "recipe: unknown recipe 'gmae'; did you mean 'game'?"),
        (
            {"recipe": {"name": "game", "num_classes": 3, "network": "zzz"}},
            "recipe.network: unknown network 'zzz'; known: net, plain",
        ),
    ],
)
def test_a_misspelt_key_or_name_suggests_the_right_one(values: Any, message: str) -> None:
    assert _mistake(values) == message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "recipe: missing; give it a value"),
        ({"recipe": {"channels": 3}}, "recipe.name: missing; give it a value"),
        ({"recipe": "game"}, "recipe.num_classes: missing; give it a value"),
        (
            {"recipe": {"name": "game", "num_classes": 1}},
            "recipe.num_classes: input should be greater than or equal to 2; got 1",
        ),
        (
            {"recipe": {"name": "game", "num_classes": 3, "network": {"name": "net", "channels": 0}}},
            "recipe.network.channels: input should be greater than 0; got 0",
        ),
        ({"train": {"num_steps": 0}}, "train.num_steps: input should be greater than 0; got 0"),
        ({"train": {"patch_size": [8, "x", 8]}}, "train.patch_size.1: input should be a valid integer"),
        ({"recipe": "no.such.module"}, "recipe: recipe 'no.such.module' cannot be imported"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(values: Any, message: str) -> None:
    assert _mistake(
        {"recipe": {"name": "game", "num_classes": 3}, **values} if "train" in values else values
    ).startswith(message)


def test_a_resolved_component_has_every_default_and_resolves_to_itself() -> None:
    study = validate(Study, {"recipe": {"name": "game", "num_classes": 3, "network": {"name": "net", "channels": 4}}})
    dumped = study.model_dump(mode="json")
    network = {"name": "net", "channels": 4, "norm": "instance"}
    assert dumped["recipe"] == {"name": "game", "num_classes": 3, "network": network, "lr": 2e-4}
    assert validate(Study, dumped) == study


def test_binding_gives_the_class_and_its_checked_options() -> None:
    target, options = bind(Component(name="net", channels=4), NETS, "network")  # type: ignore[call-arg]
    assert target is Net
    assert options == {"channels": 4, "norm": "instance"}
    with pytest.raises(InputError, match=r"net\.chanels: unknown key; did you mean 'channels'"):
        bind(Component(name="net", chanels=4), NETS, "network")  # type: ignore[call-arg]


def test_a_dotted_name_is_any_importable_class() -> None:
    target, options = bind(Component(name="fractions.Fraction"), NETS, "network")
    assert target.__name__ == "Fraction"
    assert options == {}
    with pytest.raises(InputError, match="not a class"):
        bind(Component(name="math.pi"), NETS, "network")


def test_an_empty_section_holds_the_defaults_and_null_turns_an_optional_one_off() -> None:
    study = validate(Study, {"recipe": {"name": "game", "num_classes": 2}, "train": None})
    assert study.train == Train()
    assert validate(Train, {"augment": None}).augment is None


@pytest.mark.parametrize(
    ("text", "value"),
    [("2e-4", 2e-4), ("1E3", 1e3), ("-.5", -0.5), ("1.", 1.0), ("7", 7), ("1.5e+2", 150.0), ("e4", "e4"), ("1e", "1e")],
)
def test_numbers_are_read_as_yaml_1_2_reads_them(tmp_path: Path, text: str, value: object) -> None:
    read = read_yaml(_yaml(tmp_path, f"lr: {text}\n"))["lr"]
    assert read == value
    assert type(read) is type(value)


def test_a_key_written_twice_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"study\.yaml, line 3: not valid YAML \(key 'a' stands twice\)"):
        read_yaml(_yaml(tmp_path, "s:\n  a: 1\n  a: 2\n"))


def test_a_merged_mapping_may_be_overruled(tmp_path: Path) -> None:
    text = "base: &base {a: 1, b: 2}\nmine:\n  <<: *base\n  a: 3\n"
    assert read_yaml(_yaml(tmp_path, text))["mine"] == {"a": 3, "b": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1, 2\n", "line 2: not valid YAML"),
        ("- 1\n", "not a mapping of sections"),
        ("", "not a mapping of sections"),
        ("a: !!python/object/apply:os.getcwd []\n", "line 1: not valid YAML"),
        ("a: \t\x00\n", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_yaml(_yaml(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_yaml(tmp_path / "absent.yaml")
    with pytest.raises(InputError, match=r"IsADirectoryError|PermissionError"):
        read_yaml(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9\n")
    with pytest.raises(InputError, match="UTF-8"):
        read_yaml(tmp_path / "latin.yaml")


def test_overrides_write_into_sections_lists_and_components(tmp_path: Path) -> None:
    path = _yaml(tmp_path, "recipe: game\ntrain:\n")
    values = read_yaml(path, ["recipe.lr=1e-3", "train.patch_size=[4, 4, 4]", "data.A.name=ct", "folder=a=b"])
    assert values == {
        "recipe": {"name": "game", "lr": 1e-3},
        "train": {"patch_size": [4, 4, 4]},
        "data": {"A": {"name": "ct"}},
        "folder": "a=b",
    }


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.lr", "not of the form section.key=value"),
        ("=3", "not of the form"),
        ("train..lr=3", "not of the form"),
        ("seed.x=1", "--set seed.x=1: 'seed' is a value, not a section"),
        ("train=[1", "--set train=[1, line 1: not valid YAML"),
    ],
)
def test_an_override_that_does_not_fit_is_refused(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_yaml(_yaml(tmp_path, "seed: 3\ntrain: {}\n"), [override])
    assert message in str(caught.value)


def test_what_is_written_is_read_back_and_leaves_no_other_file(tmp_path: Path) -> None:
    study = validate(Study, {"recipe": {"name": "game", "num_classes": 3}, "folder": "x/y"})
    write_yaml(tmp_path / "out.yaml", study)
    assert validate(Study, read_yaml(tmp_path / "out.yaml")) == study
    assert [path.name for path in tmp_path.iterdir()] == ["out.yaml"]


def test_the_schema_offers_names_and_options_and_stands_alone() -> None:
    recipe = Study.model_json_schema()["properties"]["recipe"]
    assert recipe["anyOf"][0] == {"enum": ["game"]}
    game = next(choice for choice in recipe["anyOf"] if choice.get("title") == "game")
    assert game["required"] == ["name", "num_classes"]
    assert game["additionalProperties"] is False
    assert game["description"] == "A recipe with a network."
    network = game["properties"]["network"]
    assert network["description"] == "its net"
    net = next(choice for choice in network["anyOf"] if choice.get("title") == "net")
    assert net["properties"]["channels"]["exclusiveMinimum"] == 0
    assert "$ref" not in yaml.safe_dump(recipe)


def test_a_suggestion_is_the_near_name_or_all_names() -> None:
    assert suggest("cyclgan", ["cyclegan", "pix2pix"]) == "did you mean 'cyclegan'?"
    assert suggest("zzz", ["b", "a"]) == "known: a, b"
