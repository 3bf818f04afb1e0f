"""The command ``medgan``: one subcommand per verb. A verb is imported only when it is called, so that help is quick."""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

if TYPE_CHECKING:
    from medgan.check import Finding
    from medgan.evaluate import EvaluateOptions
    from medgan.experiment import Experiment
    from medgan.outputs import Output
    from medgan.rundir import Direction, RunDir

app = typer.Typer(
    help="Translate 3D medical volumes between modalities with segmentation-consistent GANs.",
    epilog="Exit codes: 0 fine, 1 something in the input to mend (one line says what), 2 a bug.",
    add_completion=False,
    pretty_exceptions_enable=False,
)

ExperimentFile = Annotated[
    Path, typer.Argument(metavar="EXPERIMENT.yaml", help="The study; see configs/.", show_default=False)
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="section.key=value", help="Instead of what the file says; repeatable.", show_default=False
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps; auto takes a GPU where there is one.")]
Workers = Annotated[int, typer.Option(min=1, help="Processes at a time.")]
WayThere = Annotated[
    str | None,
    typer.Option(metavar="AB|BA", help="A to B or B to A; without it, all that were trained.", show_default=False),
]


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        import medgan

        typer.echo(f"medgan {medgan.__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def check(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT", help="CASES.csv, EXPERIMENT.yaml, volumes or folders of volumes.", show_default=False
        ),
    ],
    output: Annotated[Path | None, typer.Option(help="Also write the findings as JSON.", show_default=False)] = None,
    overrides: Overrides = None,
) -> None:
    """What is wrong with these data, and how to mend it."""
    from medgan.check import print_check, run_check, write_check

    findings = []
    for path in inputs:
        if path.suffix.lower() in (".yaml", ".yml"):
            findings += _check_experiment(path, overrides)
        elif path.suffix.lower() in (".csv", ".tsv"):
            findings += run_check([], table=path, show_progress=True)
        else:
            findings += run_check([path], show_progress=True)
    print_check(findings)
    if output is not None:
        write_check(output, findings)
    if any(finding.severity == "error" for finding in findings):
        raise typer.Exit(1)


@app.command()
def preprocess(experiment: ExperimentFile, run: RunFolder, workers: Workers = 1, overrides: Overrides = None) -> None:
    """Orient, resample, crop, normalise and store every case once."""
    study, place = _begin(experiment, run, overrides)
    from medgan.preprocess import preprocess

    preprocess(study.cases, study.preprocess, Path(), place.preprocess, workers)


@app.command()
def train(experiment: ExperimentFile, run: RunFolder, device: Device = "auto", overrides: Overrides = None) -> None:
    """Train; the same command again goes on where it stopped."""
    study, place = _begin(experiment, run, overrides)
    from medgan.train import train

    verdict = train(study.recipe, study.train, place, seed=study.seed, device=device, samples=study.samples)
    if verdict:
        typer.echo(f"training: {verdict}")


@app.command()
def translate(
    run: RunFolder,
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="INPUT", help="Volumes or folders; without any, the run's test cases.", show_default=False
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where translations of INPUT go.", show_default=False)
    ] = None,
    direction: WayThere = None,
    force: Annotated[bool, typer.Option("--force", help="Write over translations of INPUT that stand.")] = False,
    segmentor: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Another run, whose segmentor reads the labels.", show_default=False),
    ] = None,
    dicom: Annotated[
        bool, typer.Option("--dicom", help="Also a DICOM series on the slices of each INPUT that is one.")
    ] = False,
    keep_patient: Annotated[
        bool, typer.Option("--keep-patient", help="Keep patient and study of INPUT in the DICOM series.")
    ] = False,
    workers: Workers = 1,
    shard: Annotated[
        str | None, typer.Option(metavar="i/n", help="Every n-th INPUT only, from the i-th.", show_default=False)
    ] = None,
    audit: Annotated[
        bool, typer.Option("--audit", help="Then compare organs with those of the sources: audit.csv.")
    ] = False,
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty", help="Then map the spread over networks, and the way back's error.")
    ] = False,
    others: Annotated[
        list[Path] | None,
        typer.Option("--with", metavar="RUN", help="Another run for --uncertainty; repeatable.", show_default=False),
    ] = None,
    device: Device = "auto",
    overrides: Overrides = None,
) -> None:
    """Volumes in the other modality, on their own grids."""
    from medgan.config import InputError
    from medgan.data.cases import load_cases
    from medgan.experiment import run_experiment
    from medgan.outputs import plan_outputs, share
    from medgan.rundir import RunDir
    from medgan.translate import directions, translate, translate_run

    place = RunDir(run)
    study = run_experiment(place, overrides or [])
    ways = [_direction(direction)] if direction else directions(place, study.translate.checkpoint)
    by = RunDir(segmentor) if segmentor else None
    if others and not uncertainty:
        raise InputError("translate: --with goes with --uncertainty; add it, or leave the runs out")

    def inspect(way: Direction, outputs: Sequence[Output] | None) -> None:
        """What --audit and --uncertainty ask for, of these translations, or of the run's own."""
        if audit:
            from medgan.audit import audit_files, audit_run

            cases, told = load_cases(study.cases, Path()), {"options": study.translate, "device": device}
            if outputs is None:
                typer.echo(audit_run(place, cases, direction=way, segmentor=by, **told))
            else:
                typer.echo(audit_files(place, cases, outputs, direction=way, segmentor=by, **told))
        if uncertainty:
            from medgan.uncertainty import load_uncertainty, targets_of, write_uncertainty

            runs = [RunDir(path) for path in others or ()]
            maps = load_uncertainty(place, way, options=study.translate, device=device, others=runs)
            for path in write_uncertainty(maps, targets_of(place, way, outputs), force=force):
                typer.echo(path)

    if not inputs:
        if output or force or dicom or shard or workers > 1:
            raise InputError(
                "translate: --output, --force, --dicom, --workers and --shard go with INPUT; name volumes, or leave "
                "them out"
            )
        cases = load_cases(study.cases, Path())
        for way in ways:
            index = translate_run(place, cases, direction=way, options=study.translate, device=device, segmentor=by)
            typer.echo(index)
            inspect(way, None)
        return
    if output is None:
        raise InputError("translate: INPUT without --output; name a folder to write into")
    if keep_patient and not dicom:
        raise InputError("translate: --keep-patient goes with --dicom; NIfTI names no patient")
    if len(ways) > 1:
        raise InputError(f"translate: the run translates {' and '.join(ways)}; add --direction")
    part = _shard(shard) if shard else None
    mistake: InputError | None = None
    try:
        for path in translate(
            place,
            inputs,
            output,
            direction=ways[0],
            options=study.translate,
            device=device,
            force=force,
            segmentor=by,
            dicom=dicom,
            keep_patient=keep_patient,
            workers=workers,
            shard=part,
        ):
            typer.echo(path)
    except InputError as error:
        mistake = error
    outputs = share(plan_outputs(inputs, output, as_dicom=dicom), part) if audit or uncertainty else []
    if standing := [one for one in outputs if one.image.exists()]:
        inspect(ways[0], standing)
    if mistake:
        raise mistake


@app.command()
def sample(
    run: RunFolder,
    output: Annotated[Path, typer.Option(metavar="FILE", help="A .png, or .npy for the numbers.", show_default=False)],
    number: Annotated[int, typer.Option("-n", help="Samples, or rows of walks and pairs.", min=1)] = 64,
    kind: Annotated[
        str | None, typer.Option(metavar="KIND", help="grid, walk, classes, pairs or points.", show_default=False)
    ] = None,
    classes: Annotated[
        list[int] | None, typer.Option("--class", help="Ask for this class; repeatable.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed draws the same samples.", min=0)] = 0,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that stands.")] = False,
    device: Device = "auto",
    overrides: Overrides = None,
) -> None:
    """New images of a generative run, or translations of a 2D run beside their sources, as a picture."""
    from medgan.config import InputError, suggest
    from medgan.experiment import run_experiment
    from medgan.rundir import RunDir
    from medgan.sample import KINDS, sample

    if kind is not None and kind not in KINDS:
        raise InputError(f"--kind {kind}: unknown; {suggest(kind, KINDS)}")
    place = RunDir(run)
    options = run_experiment(place, overrides or []).sample
    of_kind = cast("Any", kind)
    asked = classes or []
    typer.echo(
        sample(
            place,
            output,
            kind=of_kind,
            count=number,
            classes=asked,
            seed=seed,
            options=options,
            device=device,
            force=force,
        )
    )


@app.command()
def evaluate(
    predictions: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="A run, or with --reference a folder of volumes from anywhere; several are compared.",
            show_default=False,
        ),
    ],
    reference: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="What the volumes should be; same names.", show_default=False)
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where to compare; same names.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where the numbers go.", show_default=False)
    ] = None,
    preset: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Also by a challenge's figures, for CT; repeatable.", show_default=False),
    ] = None,
    direction: WayThere = None,
    workers: Workers = 1,
    overrides: Overrides = None,
) -> None:
    """Translations against the truth, per case and in summary."""
    from medgan.config import InputError
    from medgan.evaluate import (
        EvaluateOptions,
        comparison_table,
        distances_table,
        evaluate_folders,
        evaluate_run,
        evaluate_several,
        summary_table,
        volumes_folder,
    )

    way = _direction(direction) if direction else None
    if mask and reference is None:
        raise InputError("evaluate: --mask goes with --reference; leave it out")
    if overrides and reference is not None:
        raise InputError("evaluate: --set goes with runs, which have a configuration; leave --reference out")
    if output is None and (reference is not None or len(predictions) > 1):
        raise InputError("evaluate: --reference or several runs without --output; name a folder to write into")
    if output is not None and reference is None and len(predictions) == 1:
        raise InputError("evaluate: one run writes into itself; leave --output out")
    if reference is None:
        options = [_with_presets(_evaluate_options(path, overrides), preset) for path in predictions]
    else:
        options = [_with_presets(EvaluateOptions(), preset)] * len(predictions)
    if len(predictions) > 1 and output is not None:
        compared = evaluate_several(
            predictions, output, reference=reference, mask=mask, options=options, direction=way, workers=workers
        )
        _print_table(*comparison_table(compared))
        typer.echo(output)
        return
    (path,), (chosen,) = predictions, options
    if reference is not None and output is not None:
        volumes = volumes_folder(path, way)
        summary, folder = evaluate_folders(volumes, reference, output, mask, chosen, workers=workers), output
    else:
        summary, folder = evaluate_run(path, chosen, direction=way, workers=workers), path / "evaluate"
    _print_table(*summary_table(summary))
    _print_table(*distances_table(summary))
    typer.echo(folder)


def _evaluate_options(run: Path, overrides: list[str] | None) -> EvaluateOptions:
    from medgan.experiment import run_experiment
    from medgan.rundir import RunDir

    return run_experiment(RunDir(run), overrides or []).evaluate


def _with_presets(options: EvaluateOptions, presets: list[str] | None) -> EvaluateOptions:
    from medgan.config import validate

    if not presets:
        return options
    asked = list(dict.fromkeys([*options.presets, *presets]))
    return validate(type(options), {**options.model_dump(), "presets": asked}, "--preset")


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    if not rows:
        return
    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 160).print(table)


@app.command()
def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="A run's folder; several are compared.", show_default=False)
    ],
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The page; else in the (first) run's report folder.", show_default=False),
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(metavar="FILE.pdf", help="A figure for papers instead; or .svg, .png.", show_default=False),
    ] = None,
    case: Annotated[
        list[str] | None,
        typer.Option(help="A row of the figure; repeatable. Else best, median, worst.", show_default=False),
    ] = None,
    direction: Annotated[
        str | None, typer.Option(metavar="AB|BA", help="Of the figure; else the first.", show_default=False)
    ] = None,
    overrides: Overrides = None,
) -> None:
    """One self-contained HTML page with curves, tables, pictures and volumes, or a figure for papers."""
    from medgan.config import InputError
    from medgan.report import report, report_options, report_runs, save_figure

    options = report_options(runs[0], overrides or ())
    if figure is not None:
        if len(runs) > 1 or output is not None:
            raise InputError("report: --figure goes with one RUN and without --output")
        way = _direction(direction) if direction else None
        typer.echo(save_figure(runs[0], figure, case or (), way, options))
        return
    if case or direction:
        raise InputError("report: --case and --direction go with --figure; leave them out")
    if len(runs) > 1:
        typer.echo(report_runs(runs, output, options))
    else:
        typer.echo(report(runs[0], options, output))


@app.command()
def phantom(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where they go.", show_default=False)],
    number: Annotated[int, typer.Option("-n", help="Training subjects of each domain.", min=1)] = 12,
    test: Annotated[int, typer.Option(help="Test subjects, seen by both scanners.", min=0)] = 4,
    shape: Annotated[tuple[int, int, int], typer.Option(help="Voxels along x, y and z.")] = (48, 48, 24),
    seed: Annotated[int, typer.Option(help="The same seed makes the same bodies.", min=0)] = 0,
) -> None:
    """Synthetic CT and MR cases with labels, to try things on."""
    from medgan.data.phantom import write_phantoms

    table = write_phantoms(folder, subjects_per_domain=number, test_subjects=test, shape=shape, seed=seed)
    typer.echo(table)


@app.command()
def config(
    recipe: Annotated[
        str | None, typer.Argument(metavar="RECIPE", help="Name of a recipe: explain its options too.")
    ] = None,
    schema: Annotated[bool, typer.Option("--schema", help="A JSON Schema, for editors to complete and check.")] = False,
) -> None:
    """Every field of a configuration: meaning, type, unit and default."""
    from medgan.experiment import Experiment

    if schema:
        import json

        typer.echo(
            json.dumps(
                {"$schema": "https://json-schema.org/draft/2020-12/schema", **Experiment.model_json_schema()}, indent=2
            )
        )
        return
    from medgan.manual import print_manual

    print_manual(Experiment, {"recipe": recipe or ""})


def main() -> None:
    """The command: run it and exit."""
    sys.exit(run())


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code, see `guarded`."""
    return guarded(lambda: app(args=arguments, prog_name="medgan", standalone_mode=False))


def guarded(action: Callable[[], int | None]) -> int:
    """Run an action and return its exit code: 0 fine, 1 the input is wrong, 2 a bug, 130 interrupted.

    A mistake of the user's is told on stderr without a traceback.
    """
    try:
        code = action() or 0
    except typer.TyperException as error:
        return _refuse(f"{error.format_message().rstrip('.')}; see {_command(error)} --help")
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except Exception as error:
        line = _mistake(error)
        if line is not None:
            return _refuse(line)
        traceback.print_exc()
        print("medgan: this is a bug; please report it with the lines above", file=sys.stderr)
        return 2
    if code == 130:
        print("medgan: interrupted; the same command goes on where it can", file=sys.stderr)
    return code


def _mistake(error: Exception) -> str | None:
    """The line for an error that the user can mend, or None for a bug."""
    from medgan.config import InputError

    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, without importing torch
        return (
            "out of memory; lower translate.memory_gb, or, in a new run folder, train.patch_size, train.batch_size or "
            "the networks' channels"
        )
    if isinstance(error, OSError) and error.errno in (
        errno.EACCES,
        errno.EROFS,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.ENOTDIR,
    ):
        return f"{error.filename or 'disk'}: {error.strerror}; make room or name another place"
    return None


def _refuse(line: str) -> int:
    print(f"medgan: {line}", file=sys.stderr)
    return 1


def _command(error: Any) -> str:
    context = getattr(error, "ctx", None)
    return context.command_path if context else "medgan"


def _shard(text: str) -> tuple[int, int]:
    from medgan.config import InputError

    index, _, count = text.partition("/")
    if not (index.isascii() and index.isdigit() and count.isascii() and count.isdigit()):
        raise InputError(f"--shard {text}: not i/n; write 1/4 for the first of four shares")
    return int(index), int(count)


def _direction(text: str) -> Direction:
    from medgan.config import InputError, suggest

    if text not in ("AB", "BA"):
        raise InputError(f"--direction {text}: unknown; {suggest(text, ('AB', 'BA'))}")
    return cast("Direction", text)


def _check_experiment(path: Path, overrides: list[str] | None) -> list[Finding]:
    from medgan.check import run_check
    from medgan.data.cases import load_cases
    from medgan.experiment import load_experiment

    data = load_experiment(path, overrides or []).cases
    return run_check(
        load_cases(data, Path()),
        data.classes,
        modalities={"A": data.A.modality, "B": data.B.modality},
        show_progress=True,
    )


def _begin(experiment: Path, run: Path, overrides: list[str] | None) -> tuple[Experiment, RunDir]:
    from medgan.experiment import load_experiment
    from medgan.rundir import RunDir

    study, place = load_experiment(experiment, overrides or []), RunDir(run)
    study.begin(place)
    return study, place
