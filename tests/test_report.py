"""The report of a small run: complete, self-contained, and honest about what is missing."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from fake_run import AFFINE, add_training, make_run
from matplotlib.figure import Figure

from medgan.cli import run
from medgan.config import InputError
from medgan.evaluate import evaluate_run
from medgan.pictures import Panel, draw_cuts
from medgan.report import ReportOptions, figure, report, report_options, report_runs, save_figure
from medgan.report.page import curve, table
from medgan.report.plates import plate
from medgan.report.views import View, Views


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("study"), train_pairs=True)
    add_training(run)
    evaluate_run(run)
    return run


@pytest.fixture(scope="module")
def page(evaluated: Path) -> str:
    return report(evaluated).read_text()


SHAPES = ("path", "polyline", "circle")


class Links(HTMLParser):
    """Everything that a page would load or point to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for key, value in attrs if key in ("src", "href", "srcset", "data", "action")]
        if tag not in ("meta", "link", "img", "br", *SHAPES):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in SHAPES:
            assert self.open.pop() == tag


def test_the_page_loads_nothing_and_is_well_formed(page: str) -> None:
    links = Links()
    links.feed(page)
    assert not links.open
    assert all(link.startswith(("data:", "#")) for link in links.found)
    assert "default-src 'none'" in page
    assert not re.search(
        r"https?://|@import|url\(", re.sub(r"<script type='text/plain'.*?</script>", "", page, flags=re.S)
    )


def test_numbers_tables_pictures_curves_and_provenance_are_there(page: str) -> None:
    assert "A small study" in page
    assert "20.0 <small>HU</small>" in page  # the card
    assert "lookup table 4.1" in page
    assert "lookup table (median)" in page
    assert page.count("data:image/webp") == 2
    assert page.count("data:image/png") == 2
    for term in ("G/adv_B", "G/cycle_A", "D/B", "S/dice_A", "score"):
        assert f"aria-label='{term} over training'" in page
    assert "real_A, fake_B" in page
    assert "medgan train &lt;x&gt; runs/x" in page
    assert "seg_cyclegan" in page


def test_the_worst_case_comes_first(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    path = run / "translate" / "BA" / "two.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) + np.int16(50), image.affine), path)
    evaluate_run(run)
    html = report(run, ReportOptions(max_cases=1)).read_text()
    cases = html.split("<section id='cases'")[1]
    assert cases.index(">two</a></td>") < cases.index("<td>one</td>")  # only what is pictured is a link
    assert "alt='cuts of two'" in html
    assert "alt='cuts of one'" not in html
    assert "1 more cases are not shown" in html


def test_a_run_that_only_trains_has_a_report_too(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    add_training(run)
    html = report(run).read_text()
    assert "Not evaluated yet" in html
    assert "G/cycle_A over training" in html


def test_what_the_user_wrote_is_escaped(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    settings = yaml.safe_load((run / "experiment.yaml").read_text())
    settings["name"] = "<script>alert(1)</script>"
    (run / "experiment.yaml").write_text(yaml.safe_dump(settings))
    html = report(run).read_text()
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)" in html


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run"):
        report(tmp_path)


def test_the_figure_of_a_case_has_five_columns_of_three_cuts(evaluated: Path) -> None:
    drawn = figure(evaluated, "one")
    assert isinstance(drawn, Figure)
    titles = [text.get_text() for text in drawn.texts]
    for title in ("source (MR)", "translation (CT)", "truth (CT)", "translation - truth", "outlines"):
        assert title in titles
    assert sum(bool(axes.images) for axes in drawn.axes) == 15
    labels = [axes.get_xlabel() for axes in drawn.axes]
    assert "HU, window -250 to 450" in labels
    assert "HU, inside the mask" in labels


def test_a_case_that_is_not_there_names_a_near_one(evaluated: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no case 'onne'; did you mean 'one'"):
        figure(evaluated, "onne")
    with pytest.raises(InputError, match="not evaluated; run `medgan evaluate"):
        figure(make_run(tmp_path), "one")


def test_cuts_keep_their_proportions_and_directions() -> None:
    image = np.zeros((10, 20, 5), dtype=np.float32)
    image[0, 0, 0] = 1  # with this affine (x to the left): right, back, bottom corner is at voxel (0, ., .)
    affine = np.diag([-2.0, 1.0, 4.0, 1.0])
    drawn = draw_cuts([Panel("one", image, (0, 1), "unit")], affine, (0, 0, 0), {})
    axial, coronal, sagittal = [axes for axes in drawn.axes if axes.images]
    for axes, (across_mm, up_mm) in zip((axial, coronal, sagittal), ((20, 20), (20, 20), (20, 20)), strict=True):
        assert tuple(axes.images[0].get_extent()) == (0, across_mm, 0, up_mm)
        box = axes.get_position()
        width, height = drawn.get_size_inches()
        assert box.width * width / (box.height * height) == pytest.approx(across_mm / up_mm)
    shown = np.asarray(axial.images[0].get_array())
    assert shown.shape == (20, 10)
    assert shown[-1, 0] == 1  # right of the patient on the left, posterior below
    assert np.asarray(coronal.images[0].get_array())[-1, 0] == 1  # inferior below
    assert np.asarray(sagittal.images[0].get_array())[-1, -1] == 1  # posterior on the right


def test_what_lies_outside_the_mask_is_not_drawn() -> None:
    image = np.ones((6, 6, 6), dtype=np.float32)
    where = np.zeros(image.shape, dtype=bool)
    where[:3] = True
    drawn = draw_cuts([Panel("one", image, (0, 1), "unit", where=where)], AFFINE, (1, 1, 1), {})
    axial = next(axes for axes in drawn.axes if axes.images)
    assert np.ma.getmaskarray(axial.images[0].get_array()).sum() == 18


def test_outlines_are_drawn_in_the_colours_of_their_classes() -> None:
    labels = np.zeros((8, 8, 8), dtype=np.uint8)
    labels[2:5, 2:5, 2:5] = 2
    panel = Panel("one", labels.astype(np.float32), (0, 1), "unit", outlines=((labels, "solid", "drawn"),))
    drawn = draw_cuts([panel], np.eye(4), (3, 3, 3), {1: "fat", 2: "bone"})
    texts = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert texts == ["bone", "drawn"]


def test_a_curve_without_a_finite_value_is_left_out() -> None:
    assert curve("x", [(1, float("nan"))]) == ""
    assert "polyline" in curve("x", [(1, 2.0)])
    assert "nan" not in curve("x", [(1, 2.0), (2, float("nan")), (3, 4.0)])


def test_a_sortable_table_carries_its_values() -> None:
    html = table(["case", "MAE"], [["one", "<!--1.23456-->1.2"]], "a < b", sortable=True)
    assert "<td data-value='1.23456'>1.2</td>" in html
    assert "a &lt; b" in html
    assert html.count("<button type='button'>") == 2


def test_numbers_that_are_not_known_are_shown_by_their_names(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    evaluate_run(run)
    path = run / "evaluate" / "summary.json"
    summary = json.loads(path.read_text())
    part = summary["directions"]["BA"]
    part["methods"]["translation"]["new_metric"] = {"mean": 0.25, "low": 0.125, "high": 0.5, "count": 2}
    for case in part["cases"]:
        case["methods"]["translation"]["new_metric"] = 0.25
    path.write_text(json.dumps(summary))
    html = report(run).read_text()
    assert "<th scope='col'>new metric</th>" in html
    assert "0.250 <small>[0.125, 0.500]</small>" in html
    assert "<td data-value='0.25'>0.250</td>" in html


def test_audits_and_seams_are_shown_where_there_are_any(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert "Audit" not in report(run).read_text()
    folder = run / "translate" / "BA"
    (folder / "audit.csv").write_text("subject,worst_sigma\none,2.34567\n<two>,\n")
    rows = json.loads((folder / "cases.json").read_text())
    rows[0]["seam_ratio"] = 1.0625
    rows[1]["seams"] = {"axial": 0.5}
    (folder / "cases.json").write_text(json.dumps(rows))
    html = report(run).read_text().split("<section id='quality'")[1]
    assert "<td data-value='2.34567'>2.346</td>" in html
    assert "&lt;two&gt;" in html
    assert "worst sigma" in html
    assert "<td data-value='1.062'>1.062</td>" in html
    assert "seams axial" in html


def test_a_page_without_a_viewer_is_small(evaluated: Path, tmp_path: Path) -> None:
    html = report(evaluated, ReportOptions(viewer_voxels=0), tmp_path / "small.html").read_text()
    assert "details class='volumes'" not in html
    assert "niivue-source" not in html
    assert len(html) < 500_000


def test_the_report_looks_at_its_own_section_alone(tmp_path: Path) -> None:
    run = make_run(tmp_path)  # its configuration is no whole experiment
    assert report_options(run, ["report.max_cases=3"]).max_cases == 3
    with pytest.raises(InputError, match="depends on its own section alone"):
        report_options(run, ["train.steps=3"])
    with pytest.raises(InputError, match=r"report\.max_case: unknown key"):
        report_options(run, ["report.max_case=3"])


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    made = []
    for name, error_hu in (("plain", 20.0), ("better", 5.0)):
        run = make_run(tmp_path_factory.mktemp(name), error_hu=error_hu)
        evaluate_run(run)
        made.append(run.rename(run.with_name(name)))
    return made


def test_runs_side_by_side_tell_what_sets_them_apart(two_runs: list[Path], tmp_path: Path) -> None:
    settings = yaml.safe_load((two_runs[1] / "experiment.yaml").read_text())
    settings["recipe"]["channels"] = 64
    (two_runs[1] / "experiment.yaml").write_text(yaml.safe_dump(settings))
    html = report_runs(two_runs, tmp_path / "both.html").read_text()
    assert "<th scope='col'>plain &minus; better</th>" in html
    assert "<td>15.0 <small>[15.0, 15.0]</small>" in html  # 20 HU off, against 5
    assert "<td><b>5.0</b> <small>[5.0, 5.0]</small></td>" in html
    assert "cuts of one in each run" in html
    assert "recipe.channels: absent -&gt; 64" in html
    assert "<td>one</td><td data-value='20'>20.0</td><td data-value='5'>5.0</td>" in html


def test_runs_that_do_not_compare_say_why(two_runs: list[Path], tmp_path: Path) -> None:
    path = two_runs[1] / "evaluate" / "summary.json"
    before = path.read_text()
    summary = json.loads(before)
    summary["options"]["erosion_mm"] = 4.0
    path.write_text(json.dumps(summary))
    html = report_runs(two_runs, tmp_path / "both.html").read_text()
    path.write_text(before)
    assert "No differences are shown: " in html
    assert "evaluate.erosion_mm differs" in html
    assert html.count("class='cards'") == 2  # each has its own numbers


def test_runs_side_by_side_need_names_and_a_direction_in_common(two_runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two runs of one name"):
        report_runs([two_runs[0], two_runs[0]], tmp_path / "x.html")
    with pytest.raises(InputError, match="not evaluated"):
        report_runs([two_runs[0], make_run(tmp_path)], tmp_path / "x.html")
    assert not (tmp_path / "x.html").exists()


@pytest.mark.parametrize(("name", "start"), [("x.pdf", b"%PDF"), ("x.svg", b"<?xml"), ("x.png", b"\x89PNG")])
def test_a_figure_for_papers_in_the_format_of_its_name(
    evaluated: Path, tmp_path: Path, name: str, start: bytes
) -> None:
    path = save_figure(evaluated, tmp_path / name)
    assert path.read_bytes().startswith(start)
    assert [one.name for one in tmp_path.iterdir()] == [name]


def test_letters_of_a_figure_stay_letters(evaluated: Path, tmp_path: Path) -> None:
    assert ">translation (CT)</text>" in save_figure(evaluated, tmp_path / "x.svg").read_text()
    assert b"/FontFile2" in save_figure(evaluated, tmp_path / "x.pdf").read_bytes()  # TrueType, embedded


def test_figures_refuse_what_they_cannot_draw(evaluated: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown format; end the name in \.pdf"):
        save_figure(evaluated, tmp_path / "x.doc")
    with pytest.raises(InputError, match="no case 'onne'; did you mean 'one'"):
        save_figure(evaluated, tmp_path / "x.pdf", ["onne"])
    with pytest.raises(InputError, match="not evaluated in direction AB; it has BA"):
        save_figure(evaluated, tmp_path / "x.pdf", direction="AB")


def test_a_plate_has_a_row_per_case_at_one_scale() -> None:
    def case(side: int) -> Views:
        image = np.zeros((side, side, 4), dtype=np.float32)
        views = tuple(
            View(kind, kind, image, (-10.0, 10.0), "HU", None)
            for kind in ("source", "translation", "reference", "error")
        )
        return Views("x", np.diag([-2.0, -2.0, 3.0, 1.0]), views, {}, np.ones(image.shape, dtype=bool), {})

    drawn = plate([case(20), case(10)], ["large", "small"])
    shown = [axes for axes in drawn.axes if axes.images and axes.get_xlabel() == "" and not axes.get_label()]
    widths = sorted({round(axes.get_position().width, 4) for axes in shown})
    assert len(shown) == 8
    assert widths[1] == pytest.approx(2 * widths[0], abs=2e-4)
    assert {text.get_text() for text in drawn.texts} == {
        "source",
        "translation",
        "reference",
        "error",
        "large",
        "small",
    }


def test_presets_volumes_and_distances_have_tables_of_their_own(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    evaluate_run(run)
    path = run / "evaluate" / "summary.json"
    summary = json.loads(path.read_text())
    part = summary["directions"]["BA"]
    summary["options"]["presets"] = ["synthrad2023"]
    part["methods"]["translation"]["synthrad2023/mae"] = {"mean": 21.0, "low": 20.0, "high": 22.0, "count": 2}
    part["distances"] = {"axial": {"real": {"kid": 0.001, "count": 40}, "translation": {"kid": 0.5, "count": 40}}}
    path.write_text(json.dumps(summary))
    (run / "evaluate" / "volumes.csv").write_text("direction,organ,bias\nBA,bone,1.5\n")
    html = report(run).read_text()
    assert "<th scope='col'>MAE (HU), synthrad2023</th>" in html
    assert "21.0 <small>[20.0, 22.0]</small>" in html
    by_part = html.split("By tissue, region and organ")[1].split("</details>")[0]
    assert "synthrad2023" not in by_part
    assert "volume" not in by_part
    assert "<td data-value='1.5'>1.5</td>" in html
    assert "translations</td><td data-value='0.5'>" in html


def test_the_command_writes_pages_and_figures_and_refuses_mixtures(
    two_runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = map(str, two_runs)
    page, drawn = tmp_path / "page.html", tmp_path / "cuts.pdf"
    assert run(["report", first, "--output", str(page), "--set", "report.max_cases=1"]) == 0
    assert page.is_file()
    assert run(["report", first, "--figure", str(drawn), "--case", "two", "--direction", "BA"]) == 0
    assert drawn.is_file()
    capsys.readouterr()
    assert run(["report", first, second, "--figure", str(drawn)]) == 1
    assert "--figure goes with one RUN" in capsys.readouterr().err
    assert run(["report", first, "--case", "two"]) == 1
    assert "--case and --direction go with --figure" in capsys.readouterr().err
