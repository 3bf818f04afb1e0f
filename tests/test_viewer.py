"""Volumes inside the page: what is embedded comes out again, in its place and in its units; NiiVue is what it says."""

import base64
import gzip
import hashlib
import json
import math
import re
from importlib.resources import files
from pathlib import Path

import nibabel as nib
import numpy as np

from medgan.report.viewer import full_script, reduced_affine, reduction, viewer_html, viewer_scripts
from medgan.report.viewer.beside import VolumesBeside
from medgan.report.views import View, Views

AFFINE = np.array([[-2.0, 0, 0, 30], [0, -2.0, 0, 40], [0, 0, 3.0, -50], [0, 0, 0, 1]])
COLOURS = {1: "#112233"}
FOLDER = files("medgan.report") / "viewer"


def views(image: np.ndarray, labels: np.ndarray | None = None, kind: str = "translation") -> Views:
    view = View(kind, "translation (CT)", image, (-250.0, 450.0), "HU", None)  # type: ignore[arg-type]
    mask = np.ones(image.shape, dtype=bool)
    return Views("one", AFFINE, (view,), {} if labels is None else {"label": labels}, mask, {1: "bone"})


def embedded(html: str) -> dict:
    return json.loads(re.search(r"<script type='application/json'>(.*?)</script>", html)[1])


def volume(data: str) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(data)))


def test_whole_numbers_come_out_as_they_went_in_and_where_they_were() -> None:
    image = np.arange(-1000, -1000 + 4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    told = embedded(viewer_html(views(image), 1000, COLOURS, {}))
    found = volume(told["images"][0]["data"])
    np.testing.assert_array_equal(found.get_fdata(), image)
    np.testing.assert_allclose(found.affine, AFFINE)
    assert told["images"][0]["window"] == [-250, 450]
    assert told["classes"] == [{"value": 1, "name": "bone", "colour": "#112233"}]
    assert told["reduced"] == ""


def test_other_values_are_rounded_to_4096_steps() -> None:
    image = np.linspace(0, 7, 4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
    found = volume(embedded(viewer_html(views(image), 1000, COLOURS, {}))["images"][0]["data"])
    assert np.abs(found.get_fdata() - image).max() <= 7 / 4095 / 2 + 1e-6


def test_the_error_is_zero_outside_the_mask() -> None:
    image = np.full((4, 4, 4), 1300.0, dtype=np.float32)
    some = views(image, kind="error")
    some.mask[:2] = False
    found = volume(embedded(viewer_html(some, 1000, COLOURS, {}))["images"][0]["data"]).get_fdata()
    assert (found[:2] == 0).all()
    assert (found[2:] == 1300).all()  # beyond the ends of the colour bar, too


def test_a_large_volume_is_reduced_along_its_finest_axis_first() -> None:
    assert reduction((8, 8, 8), np.array([1, 1, 1]), 512) == (1, 1, 1)
    assert reduction((8, 8, 8), np.array([1, 1, 4]), 128) == (2, 2, 1)
    shape, limit = (400, 400, 150), 100_000
    factors = reduction(shape, np.array([1, 1, 2]), limit)
    assert math.prod(math.ceil(n / f) for n, f in zip(shape, factors, strict=True)) <= limit


def test_a_reduced_volume_stays_in_its_place_and_names_the_file() -> None:
    x = np.arange(8, dtype=np.float32)
    image = np.broadcast_to((x * 10)[:, None, None], (8, 8, 4)).copy()
    labels = np.zeros(image.shape, dtype=np.uint8)
    labels[4:] = 1
    told = embedded(viewer_html(views(image, labels), 64, COLOURS, {"translation": "translate/one.nii.gz"}))
    found = volume(told["images"][0]["data"])
    assert told["reduced"] == "2 x 2 x 1"
    assert told["files"] == {"translation": "translate/one.nii.gz"}
    assert found.shape == (4, 4, 4)
    np.testing.assert_allclose(found.get_fdata()[:, 0, 0], [5, 25, 45, 65], atol=0.02)
    np.testing.assert_allclose(found.affine @ [0, 0, 0, 1], AFFINE @ [0.5, 0.5, 0, 1])
    drawn = volume(told["labels"][0]["data"])
    np.testing.assert_array_equal(drawn.get_fdata()[:, 0, 0], [0, 0, 1, 1])
    assert drawn.header.get_intent()[0] == "label"


def test_what_is_reduced_in_the_page_is_whole_in_the_script_beside_it() -> None:
    image = np.arange(8 * 8 * 4, dtype=np.int16).reshape(8, 8, 4)
    script = full_script(views(image), 64, COLOURS)
    assert script is not None
    told = json.loads(script.removeprefix("medganVolumes(").removesuffix(");\n"))
    found = volume(told["images"][0]["data"])
    np.testing.assert_array_equal(found.get_fdata(), image)
    np.testing.assert_allclose(found.affine, AFFINE)
    assert told["reduced"] == ""
    assert full_script(views(image), 256, COLOURS) is None  # the page has it in full


def test_volumes_lie_beside_the_page_until_a_page_without_them_is_written(tmp_path: Path) -> None:
    page = tmp_path / "index.html"
    large = views(np.zeros((8, 8, 4), dtype=np.int16))
    beside = VolumesBeside(page, wanted=True)
    html = beside.viewer("AB_one #1", large, 64, COLOURS, {})
    assert embedded(html)["full"] == "index_volumes/AB_one%20%231.js"
    assert beside.viewer("AB_two", large, 256, COLOURS, {}).count('"full":""') == 1
    assert beside.viewer("AB_three", large, 0, COLOURS, {}) == ""
    beside.tidied(page)
    assert [file.name for file in (tmp_path / "index_volumes").iterdir()] == ["AB_one #1.js"]
    again = VolumesBeside(page, wanted=False)
    assert embedded(again.viewer("AB_one #1", large, 64, COLOURS, {}))["full"] == ""
    again.tidied(page)
    assert not (tmp_path / "index_volumes").exists()


def test_blocks_lie_in_the_middle_of_their_voxels() -> None:
    np.testing.assert_allclose(reduced_affine(np.eye(4), (3, 1, 2)) @ [0, 0, 0, 1], [1, 0, 0.5, 1])


def test_nothing_that_is_embedded_ends_its_script() -> None:
    image = np.zeros((2, 2, 2), dtype=np.int16)
    told = viewer_html(views(image), 10, COLOURS, {})
    assert told.count("</script") == 1
    named = Views("</script><b>", AFFINE, views(image).images, {}, np.ones((2, 2, 2), dtype=bool), {})
    assert viewer_html(named, 10, COLOURS, {}).count("</script") == 1
    assert viewer_scripts().count("</script") == 3


def test_niivue_is_the_file_of_its_package() -> None:
    digest = hashlib.sha256((FOLDER / "niivue.umd.js").read_bytes()).hexdigest()
    assert digest in (FOLDER / "README.md").read_text(encoding="utf-8")
    assert "BSD 2-Clause License" in (FOLDER / "LICENSE").read_text(encoding="utf-8")
