"""The page and the JSON of the sarcoma study, from what its runs have left."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sts_cases import case_rows, read_subjects
from sts_pictures import read_lines
from sts_scores import LOOKUPS, MAE_METRICS, READER_HU, TISSUES, compare
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event

from medgan.config import read_yaml
from medgan.data.store import read_json
from medgan.evaluate import summary_table
from medgan.rundir import RunDir, differences

DICE_COLUMNS = ["Dice bone > 180 HU", *(f"Dice {who} {name}" for who in ("read", "S") for name in TISSUES.values())]
TRAINED_ON = "trained_on.json"  # the environment of the latest piece of training, in a run's folder
MEAN_TABLE, MEDIAN_TABLE = LOOKUPS
SHARED_BY_RECIPES = ("generator_net", "discriminator_net", "lr", "lr_discriminator", "beta1", "ema_decay")
COMPARED = [
    ("seg_cyclegan", "cyclegan"),
    ("seg_cyclegan", MEAN_TABLE),
    ("seg_cyclegan", MEDIAN_TABLE),
    ("pix2pix", MEDIAN_TABLE),
    ("seg_cyclegan", "pix2pix"),
]
CITATION = """Data: Vallieres et al. 2015, The Cancer Imaging Archive, doi:10.7937/K9/TCIA.2015.7GO2GSKS (CC BY 3.0);
Vallieres et al. 2015, Phys Med Biol, doi:10.1088/0031-9155/60/14/5471; Clark et al. 2013, J Digit Imaging,
doi:10.1007/s10278-013-9622-7; prepared from `theibsi/data_sets` (IBSI validation set), changed: cropped, resampled,
MR bias-corrected and scaled, labelled."""


def data_facts(data: Path) -> dict[str, Any]:
    """Which patients the study is about and what each is for."""
    rows = case_rows(data, paired=False, start=data)
    validation = sorted({row["subject"] for row in rows if row["split"] == "validation"})
    roles: dict[str, list[str]] = {}
    for row in read_subjects(data):
        roles.setdefault(row["role"], []).append(row["subject"])
    return {"name": data.name, "patients": sum(map(len, roles.values())), "roles": roles, "validation": validation}


def training_facts(run: RunDir, config: Mapping[str, Any]) -> dict[str, Any]:
    """What one training took and what it was told.

    Args:
        run: a run that has been trained.
        config: the experiment of the file in configs/, every default written out, as a plain mapping.
    """
    losses, validation = read_lines(run.train / "losses.jsonl"), read_lines(run.train / "validation.jsonl")
    environment = run.path / TRAINED_ON
    scored = [line for line in validation if "score" in line]
    experiment = read_yaml(run.experiment_yaml)
    pieces = [seconds for seconds in map(_seconds, sorted((run.train / "tensorboard").glob("events*"))) if seconds]
    return {
        "steps": int(losses[-1]["step"]),
        "selected_step": int(max(scored, key=lambda line: line["score"])["step"]) if scored else None,
        "seconds": round(sum(pieces), 1),
        "pieces": len(pieces),
        "changed": _changed(config, experiment),
        "environment": read_json(environment if environment.exists() else run.environment_json),
        "experiment": experiment,
    }


def _seconds(events: Path) -> float:
    """From the start of an uninterrupted piece of training to the last that it wrote."""
    times = [Event.FromString(record).wall_time for record in RawEventFileLoader(str(events)).Load()]
    return max(times) - min(times) if times else 0.0


def _changed(config: Mapping[str, Any], experiment: Mapping[str, Any]) -> list[str]:
    sections = ("seed", "preprocess", "recipe", "train", "translate", "evaluate")
    plain = json.loads(json.dumps({key: config[key] for key in sections}))
    return differences(plain, {key: experiment[key] for key in sections})


def unequal(experiments: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Where trainings that are compared were not told the same, beside what sets their recipes apart."""
    first, *rest = experiments
    return [
        f"{name}: {line} (in {first} and in {name})"
        for name in rest
        for line in differences(_shared(experiments[first]), _shared(experiments[name]))
    ]


def _shared(experiment: Mapping[str, Any]) -> dict[str, Any]:
    shared = {key: experiment[key] for key in ("seed", "preprocess", "train", "translate", "evaluate")}
    shared["data"] = {key: value for key, value in experiment["data"].items() if key != "table"}
    shared["recipe"] = {key: experiment["recipe"].get(key) for key in SHARED_BY_RECIPES}
    return shared


def comparisons(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The differences between methods that the study is about, as far as both are there."""
    metrics = ("MAE common body", "MAE dense bone", "Dice bone > 180 HU")
    return [
        compare(table, method, rival, metric)
        for method, rival in COMPARED
        if method in table and rival in table
        for metric in metrics
    ]


def write_page(folder: Path, study: Mapping[str, Any], summaries: Mapping[str, Any]) -> Path:
    """``sts.md`` in `folder`, around the hand-written ``sts_notes.md`` there, and ``sts.json``; returns the page.

    The JSON holds `study` and, as ``ct_to_mr``, the numbers of the other way from `summaries`.

    Args:
        folder: where they go; pictures are expected in ``sts/`` below it.
        study: with keys data, methods, comparisons, trainings, missing, command, pictures.
        summaries: by method the contents of its run's ``evaluate/summary.json``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    other_way = {name: s["directions"]["AB"]["methods"] for name, s in summaries.items() if "AB" in s["directions"]}
    numbers = json.dumps({**study, "ct_to_mr": other_way}, indent=1)
    (folder / "sts.json").write_text(numbers + "\n", encoding="utf-8")
    notes = folder / "sts_notes.md"
    parts = [
        _head(study),
        _tables(study["methods"]),
        _compared(study["comparisons"]),
        _pictures(study["pictures"]),
        notes.read_text(encoding="utf-8").strip() if notes.exists() else "",
        _other_way(summaries),
        _per_patient(study["methods"]),
        _trainings(study["trainings"], study["command"]),
        CITATION,
    ]
    page = folder / "sts.md"
    page.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")
    return page


def _head(study: Mapping[str, Any]) -> str:
    data, roles = study["data"], study["data"]["roles"]
    lines = [
        "# CT from MR of soft-tissue sarcomas",
        "<!-- Written by pipelines/sts_study.py; only sts_notes.md is written by hand. -->",
        f"T1 MR of the limbs to CT, `{data['name']}`, {data['patients']} patients: CT of {len(roles['train_ct'])} and "
        f"MR of {len(roles['train_mr'])} others to train on, unpaired, 2 of each held out as validation "
        f"({', '.join(data['validation'])}), and {len(roles['test'])} paired ones to test on "
        f"({', '.join(roles['test'])}). `pix2pix` trains on the pairs of the MR patients: it is meant as an "
        "upper bound, not as a rival. The lookup tables (60 bins of T1 to 1500, mean or median CT per bin) are fitted "
        "on those pairs too, "
        "validation patients included.",
        "To keep in mind: this is one seed and four patients; `seg_cyclegan` gives its generators a share of "
        "1 - `seg_warmup` of the steps, its rivals all of them; settings were chosen on synthetic bodies and on "
        "training and validation patients, never on the test patients; which step is taken goes by the score of the "
        "validation patients, without pairs but for `pix2pix`.",
    ]
    if study["missing"]:
        lines.append(f"**Not finished yet, so not in the tables: {', '.join(study['missing'])}.**")
    return "\n\n".join(lines)


def _tables(methods: Mapping[str, Any]) -> str:
    fat, soft, dense = READER_HU
    mae = {name: score for name, score in methods.items() if name != "real CT"}
    return "\n\n".join(
        [
            "## Error",
            _markdown(["method", *_heads(MAE_METRICS)], [[n, *_means(s, MAE_METRICS, 1)] for n, s in mae.items()]),
            "MAE in HU, mean over the test patients and the 95 % bootstrap interval of that mean over patients; with "
            "four patients it is too narrow. All but the last column lie in the common body: the MR body and the CT "
            "body, intersected, without a rim of 2 mm in plane. *Dense bone*: real CT, smoothed, above 180 HU. *Fat, "
            "soft tissue, bone*: the tissue labels; soft tissue with tumour, which CT does not tell apart, bone with "
            "its marrow. Over the *MR body* the tables are fitted anew there. Residual shifts of up to 4 mm between CT "
            "and MR keep every method above 0.",
            "## Overlap",
            _markdown(
                ["method", *_heads(DICE_COLUMNS)], [[n, *_means(s, DICE_COLUMNS, 3)] for n, s in methods.items()]
            ),
            f"Dice in the common body. *Bone > 180 HU*: smoothed synthetic CT above 180 HU against smoothed real CT. "
            f"*Read*: one reader for all methods, thresholds on smoothed CT (fat {fat:g} to {soft:g} HU, soft tissue "
            f"to {dense:g} HU, bone above), against the tissue labels, which were cut from the real CT by thresholds "
            "too; the row of the real CT is what this reader can reach. *S*: the recipe's own CT segmentor on its "
            f"synthetic CT, against the same labels. The one value everywhere is the median HU of the tables' pairs.",
        ]
    )


def _compared(comparisons: Sequence[Mapping[str, Any]]) -> str:
    if not comparisons:
        return ""
    rows = []
    for entry in comparisons:
        decimals = 1 if entry["metric"].startswith("MAE") else 3
        share = "-" if entry["share"] is None else f"{100 * entry['share']:+.0f} %"
        verdict = f"{sum(_is_better(entry, v) for v in entry['patients'].values())} of {entry['count']}"
        rows.append([f"{entry['method']} - {entry['rival']}", entry["metric"], _cell(entry, decimals), share, verdict])
    head = ["difference", "of", "mean [95 % interval]", "of the rival's", "patients better"]
    return "## Differences\n\n" + _markdown(head, rows) + "\n\nThe interval is over patients, of paired differences."


def _is_better(entry: Mapping[str, Any], value: float) -> bool:
    return value < 0 if entry["metric"].startswith("MAE") else value > 0


def _pictures(names: Sequence[str]) -> str:
    lines = ["## Pictures"] if names else []
    for name in names:
        title = "Training: losses and validation" if name == "curves.png" else name.removesuffix(".png")
        lines.append(f"![{title}](sts/{name})")
    return "\n\n".join(lines)


def _other_way(summaries: Mapping[str, Any]) -> str:
    found: dict[str, dict[str, str]] = {}
    for method, summary in summaries.items():
        if "AB" in summary["directions"]:
            columns, rows = summary_table({"directions": {"AB": summary["directions"]["AB"]}})
            for row in rows:
                name = method if row[1] == "translation" else row[1]
                found.setdefault(name, dict(zip(columns[2:], row[2:], strict=True)))
    if not found:
        return ""
    head = list(dict.fromkeys(column for cells in found.values() for column in cells))
    order = sorted(found, key=lambda name: not name.startswith("lookup"))
    return (
        "## The other way: CT to MR\n\n"
        + _markdown(["method", *head], [[name, *(found[name].get(c, "-") for c in head)] for name in order])
        + "\n\nIn units of the scaled T1 (fat near 1000), in the common body; Dice and HD95 of the MR segmentor S on "
        "the synthetic MR, whole volume. Tables from HU to T1 are fitted on the same pairs."
    )


def _per_patient(methods: Mapping[str, Any]) -> str:
    columns = [*MAE_METRICS, DICE_COLUMNS[0]]
    parts = ["## Patient by patient"]
    for subject in next(iter(methods.values()))[columns[0]]["patients"]:
        rows = [
            [name, *(_number(score[c]["patients"][subject], 1 if c.startswith("MAE") else 3) for c in columns)]
            for name, score in methods.items()
            if name != "real CT"
        ]
        parts += [f"### {subject}", _markdown(["method", *(_heads(MAE_METRICS)), DICE_COLUMNS[0]], rows)]
    return "\n\n".join(parts)


def _trainings(trainings: Mapping[str, Any], command: str) -> str:
    if not trainings:
        return ""
    rows, changes = [], []
    for name, facts in trainings.items():
        environment = facts["environment"]
        device = ", ".join(environment.get("gpus") or []) or f"CPU, threads: {environment.get('threads', '?')}"
        pieces = f" in {facts['pieces']} pieces" if facts["pieces"] > 1 else ""
        rows.append(
            [
                name,
                str(facts["steps"]),
                "-" if facts["selected_step"] is None else str(facts["selected_step"]),
                f"{facts['seconds'] / 60:.1f} min{pieces}",
                str(environment["seed"]),
                device,
                f"{environment['platform']}, Python {environment['python']}, torch {environment['packages']['torch']}, "
                f"MONAI {environment['packages']['monai']}",
            ]
        )
        changes += [f"* {name}: {line}" for line in facts["changed"]]
    told = ["Against the files in `configs/`, changed on the command line:\n\n" + "\n".join(changes)] if changes else []
    return "\n\n".join(
        [
            "## Training",
            _markdown(["method", "steps", "selected", "time", "seed", "device", "on"], rows),
            f"Last command: `{command}`. Steps seen and the step whose weights model selection took, without pairs "
            "but for `pix2pix`. Every value of the configurations, versions and the numbers of all tables are in "
            "[sts.json](sts.json).",
            _equality(trainings),
            *told,
        ]
    )


def _equality(trainings: Mapping[str, Any]) -> str:
    lines = unequal({name: facts["experiment"] for name, facts in trainings.items()})
    files = "`configs/sts_ct_mr.yaml`, `sts_cyclegan.yaml`, `sts_pix2pix.yaml`"
    if not lines:
        return f"They share data, patches, networks, learning rates and number of steps ({files})."
    return f"They do not share all of data, patches, networks and steps ({files}):\n\n" + "\n".join(
        f"* {line}" for line in lines
    )


def _heads(columns: Sequence[str]) -> list[str]:
    """Titles without the word that all columns of a table share."""
    return [column.removeprefix("MAE ").removeprefix("Dice ") for column in columns]


def _means(score: Mapping[str, Any], columns: Sequence[str], decimals: int) -> list[str]:
    return [_cell(score[column], decimals) for column in columns]


def _cell(entry: Mapping[str, Any], decimals: int) -> str:
    low, high = entry["interval"]
    interval = "" if low is None else f" [{low:.{decimals}f}, {high:.{decimals}f}]"
    return _number(entry["mean"], decimals) + interval


def _number(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
