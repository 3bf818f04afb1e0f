"""A study fitted to its cases and to a machine."""

import json
import math
import subprocess

import nibabel as nib
import numpy as np
import pytest
import yaml

from medgan.cli import run
from medgan.config import Component, InputError
from medgan.data.phantom import write_phantoms
from medgan.experiment import load_experiment
from medgan.plan import dry, fitting, rules
from medgan.plan.decisions import Draft
from medgan.plan.draft import draft
from medgan.plan.machine import GIB, find_machine, peak_resident_bytes
from medgan.plan.memory import Sample, StepModel
from medgan.plan.probe import probe, probe_sizes

CT_MM, MR_MM = (0.8, 0.8, 1.0), (1.1, 1.1, 4.0)


def rows(*spacings):
    return np.array(spacings, dtype=np.float64)


def test_the_spacing_of_a_domain_is_its_median():
    spacings = rows((0.7, 0.7, 1.0), (0.8, 0.8, 1.5), (0.9, 0.9, 2.0))
    assert rules.domain_spacing(spacings, np.full((3, 3), 100.0)) == (0.8, 0.8, 1.5)


def test_along_a_coarse_axis_of_few_slices_the_finest_tenth_counts():
    spacings = rows(*((1.0, 1.0, mm) for mm in np.linspace(3, 7, 11)))
    assert rules.domain_spacing(spacings, np.tile([320.0, 320, 60], (11, 1))) == pytest.approx((1, 1, 3.4))
    assert rules.domain_spacing(spacings, np.tile([320.0, 320, 200], (11, 1))) == pytest.approx((1, 1, 5))


def test_of_two_domains_the_coarser_decides_each_axis():
    assert rules.common_spacing([CT_MM, (0.5, 1.5, 4.0)]) == (0.8, 1.5, 4.0)
    assert rules.is_one_grid(rows(CT_MM, (0.803, 0.8, 1.0)))
    assert not rules.is_one_grid(rows(CT_MM, MR_MM))


def test_patches_are_equal_in_mm_and_shrink_where_they_cover_most():
    found = list(rules.patches((400, 400, 400), (1, 1, 4), multiple=8, least=16))
    assert found[0] == (400, 400, 104)  # 256 cubed voxels: 406 x 406 x 102, cut to the body, rounded
    assert found[1] in ((392, 400, 104), (400, 392, 104))
    assert found[-1] == (16, 16, 16)
    assert all(n % 8 == 0 for patch in found for n in patch)
    volumes = [math.prod(patch) for patch in found]
    assert volumes == sorted(volumes, reverse=True)


def test_a_patch_is_no_larger_than_the_body_rounded_up():
    assert next(rules.patches((46, 39, 24), (4, 4, 6), multiple=4, least=16)) == (48, 40, 24)


def test_networks_halve_no_further_than_to_four_voxels():
    assert rules.halvings((320, 320, 60), 4) == 3
    assert rules.halvings((46, 39, 24), 3) == 2
    assert rules.halvings((6, 6, 6), 3) == 1
    assert rules.least_patch(levels=3, layers=2) == 32
    assert rules.least_patch(levels=1, layers=3) == 24


def test_steps_show_every_voxel_two_hundred_times():
    assert rules.steps(1e6, 10_000, 1) == 20_000
    assert rules.steps(1e6, 10_000, 4) == 5_000
    assert rules.steps(1e3, 10_000, 1) == 2_000
    assert rules.steps_within(20_000, 1.0, 0.5) == 7_200
    assert rules.steps_within(100, 1.0, 0.5) == 100


def test_the_model_is_the_line_through_dry_steps_and_full_pools():
    samples = [Sample((n, 10, 10), 1000 + 7 * 100 * n, 0.5 + 0.01 * n) for n in (10, 20, 40)]
    model = StepModel.fit(samples, pool_images=100)
    assert model.fixed_bytes == pytest.approx(1000)
    assert model.bytes_per_voxel == pytest.approx(7)
    assert model.peak_bytes(5000, batch_size=2) == pytest.approx(1000 + 7 * 10_000 + 100 * 5000 * 4)
    assert model.seconds(5000) == pytest.approx(1.0)


def test_a_line_never_starts_below_nothing():
    model = StepModel.fit([Sample((1, 1, 10), 10, 1.0), Sample((1, 1, 20), 40, 0.5)], 0)
    assert (model.fixed_bytes, model.seconds_per_voxel) == (0, 0)
    assert model.seconds(1000) == 0.75


def test_dry_steps_are_small_and_in_the_proportions_of_the_patch():
    sizes = probe_sizes((256, 256, 64), 8, 32, (24_000, 72_000, 144_000))
    assert len(sizes) == 3
    assert all(n % 8 == 0 and n >= 32 for size in sizes for n in size)
    assert all(math.prod(size) < 300_000 for size in sizes)
    assert len(probe_sizes((16, 16, 16), 8, 16, (24_000, 72_000))) == 2


def line(recipe, train, patches, *, device, num_classes):
    """A machine of which all is known: 0.5 GiB and 8 KiB per voxel, 10 microseconds per voxel."""
    samples = [Sample(one, GIB // 2 + 8192 * math.prod(one), 1e-5 * math.prod(one)) for one in patches]
    return StepModel.fit(samples, 0), samples


@pytest.fixture
def known_machine(monkeypatch):
    monkeypatch.setattr(fitting, "probe", line)


def bounds(gib, seconds=math.inf):
    return fitting.Bounds("cpu", 4, gib * GIB, seconds, (24_000, 72_000))


def fit(gib, given=None, seconds=math.inf, proposals=(fitting.NARROW,)):
    return fitting.fit(
        Draft(given or {}),
        Component(name="cyclegan"),
        {},
        body=(200, 200, 100),
        spacing_mm=(1, 1, 2),
        proposals=proposals,
        bounds=bounds(gib, seconds),
    )


def test_the_patch_is_the_largest_that_fits(known_machine):
    fitted = fit(4.5)
    assert 8192 * math.prod(fitted.patch) <= 4 * GIB < 8192 * math.prod(fitted.patch) * 1.1
    assert "GiB, 4.50 are allowed" in fitted.why_patch
    assert "segmentor_net" not in fitted.recipe.options
    quick = fit(4.5, seconds=1.0)
    assert 1e-5 * math.prod(quick.patch) <= 1.0
    assert "s a step, 1 are allowed" in quick.why_patch


def test_what_is_left_goes_to_more_patches(known_machine):
    fitted = fit(100)
    assert fitted.patch == (200, 200, 104)
    assert fitted.batch == 3


def test_wide_networks_give_way_where_their_patch_would_be_small(known_machine):
    both = (fitting.WIDE, fitting.NARROW)
    assert fit(9, proposals=both).recipe.options["generator_net"]["channels"] == 32
    assert fit(1.5, proposals=both).recipe.options["generator_net"]["channels"] == 16


def test_too_little_memory_is_refused_with_the_way_out(known_machine):
    with pytest.raises(InputError, match=r"smallest patch, 32 x 32 x 32, takes 0.75 GiB and 0.60 are allowed; name"):
        fit(0.6)


def test_a_gpu_that_is_not_here_wants_its_memory_told(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match=r"no GPU here for 'cuda'; .*--memory-gb 24"):
        find_machine("cuda", None, None)
    machine = find_machine("cuda", 24, 8)
    assert (machine.memory_bytes, machine.cores, machine.is_here) == (24 * GIB, 8, False)
    assert find_machine("cpu", None, None).memory_bytes > 2**28


def test_the_peak_of_a_process_is_seen():
    before = peak_resident_bytes()
    ones = np.ones(2**22)
    assert peak_resident_bytes() >= max(before, ones.nbytes)


def study(folder, **changes):
    write_phantoms(folder, subjects_per_domain=2, test_subjects=1, shape=(32, 32, 16))
    values = {
        "data": {"table": "cases.csv", "A": {"name": "CT", "modality": "ct"}, "B": {"name": "MR", "modality": "mr"}},
        "recipe": {"name": "cyclegan", "lambda_cycle": 5},
        **changes,
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(values))
    return folder / "study.yaml"


def test_a_plan_is_a_complete_configuration_with_its_reasons(tmp_path, monkeypatch, capsys, known_machine):
    monkeypatch.chdir(tmp_path)
    path = study(tmp_path, train={"batch_size": 2}).relative_to(tmp_path)
    assert run(["plan", str(path), "--memory-gb", "3", "--output", "fitted", "--device", "cpu"]) == 0
    assert "train.patch_size" in capsys.readouterr().out
    text = (tmp_path / "fitted" / "experiment.yaml").read_text()
    planned = load_experiment(tmp_path / "fitted" / "experiment.yaml")
    assert planned.train.patch_size == (32, 28, 16)
    assert planned.train.batch_size == 2
    assert planned.preprocess.spacing_mm is None
    assert planned.recipe.options["lambda_cycle"] == 5
    assert planned.plan.memory_gb == 3
    assert planned.cases.table.resolve() == tmp_path / "cases.csv"
    assert "# of the median body" not in text
    assert "% of the median body of" in text
    assert "# weight of the cycle terms" in text
    assert "medgan train fitted/experiment.yaml RUN" in text
    assert str(tmp_path) not in text
    told = json.loads((tmp_path / "fitted" / "plan.json").read_text())
    assert {one["key"]: one["why"] for one in told["decisions"]}["train.batch_size"] == "as given"
    assert told["predicted"]["peak_gib"] == pytest.approx(0.5 + 8192 * 2 * 32 * 28 * 16 / GIB, rel=0.01)
    assert run(["plan", str(path), "--output", "fitted"]) == 1
    assert "stands already; --force" in capsys.readouterr().err


def test_a_first_configuration_comes_from_a_table_or_two_folders(tmp_path):
    write_phantoms(tmp_path, subjects_per_domain=1, test_subjects=0, shape=(16, 16, 8))
    values = draft([tmp_path / "cases.csv"])
    assert values["recipe"] == {"name": "seg_cyclegan"}
    assert [values["data"][side]["modality"] for side in "AB"] == ["ct", "mr"]
    assert set(values["data"]["classes"]) == set(range(8))
    for name, low in (("mri", 0), ("planning_ct", -1000)):
        (tmp_path / name).mkdir()
        image = nib.Nifti1Image(np.full((4, 4, 4), low, np.int16), np.eye(4))
        nib.save(image, tmp_path / name / f"p1_{name}.nii.gz")
    values = draft([tmp_path / "mri", tmp_path / "planning_ct"])
    assert values["recipe"] == {"name": "cyclegan"}
    assert [values["data"][side]["modality"] for side in "AB"] == ["mr", "ct"]
    with pytest.raises(InputError, match="two folders of volumes"):
        draft([tmp_path / "mri"])


def test_dry_steps_are_steps_of_a_real_training():
    """Each in a process of its own; more voxels take more memory, and the pools are counted, not filled."""
    networks = {
        "generator_net": {"name": "unet", "channels": 8, "levels": 1},
        "discriminator_net": {"name": "patchgan", "channels": 8, "layers": 1},
    }
    recipe = Component.model_validate({"name": "cyclegan", "pool_size": 7, **networks})
    train = {"precision": "float32", "augment": None}
    model, samples = probe(recipe, train, [(16, 16, 8), (32, 32, 16)], device="cpu", num_classes=0)
    assert model.pool_images == 14
    assert samples[1].peak_bytes > samples[0].peak_bytes > 1e8
    assert 100 < model.bytes_per_voxel < 50_000
    assert all(sample.seconds > 0 for sample in samples)


def test_dry_steps_that_are_refused_are_told_in_one_line(monkeypatch):
    spec = {"recipe": {"name": "cyclegan"}, "train": {"patch_size": [8, 8, 8]}, "device": "nowhere", "num_classes": 0}
    with pytest.raises(InputError, match="device 'nowhere': not on this machine"):
        dry.run(spec)
    done = subprocess.CompletedProcess([], 1, "", "warning\nout of memory; make room, or narrow the networks\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    with pytest.raises(InputError, match=r"dry step of 8 x 8 x 8 voxels is refused: out of memory; make room"):
        probe(Component(name="cyclegan"), {}, [(8, 8, 8)], device="cpu", num_classes=0)
