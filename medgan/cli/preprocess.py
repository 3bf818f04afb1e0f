"""``medgan preprocess``."""

from __future__ import annotations

from pathlib import Path

from medgan.cli.options import ExperimentFile, Overrides, RunFolder, Workers, begun


def preprocess(experiment: ExperimentFile, run: RunFolder, workers: Workers = 1, overrides: Overrides = None) -> None:
    """Orient, resample, crop, normalise and store every case once."""
    with begun(experiment, run, overrides) as (study, place):
        from medgan.preprocess import preprocess

        preprocess(study.cases, study.preprocess, Path(), place.preprocess, workers)
