"""Slices of phantoms as a source of samples."""

import numpy as np
import pytest
import torch

from medgan.config import Component, InputError, bind
from medgan.data import phantom_slices
from medgan.data.phantom import make_phantom
from medgan.data.phantom_slices import CT_WINDOW, PhantomSlices

TINY = {"size": 16, "bodies": 3, "held_out_bodies": 2, "slices": 4}


def draw(source, pairing="single", split="train", count=4, seed=0):
    return source.draw(np.random.default_rng(seed), count, split, pairing)


def test_a_draw_is_a_function_of_the_generators_state():
    source = PhantomSlices(**TINY, B=("mr", "t2"))
    one, two, other = (draw(source, "unpaired", seed=seed) for seed in (1, 1, 2))
    assert set(one) == {"A", "B", "class_B", "label_A", "label_B"}
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not torch.equal(one["A"], other["A"])


@pytest.mark.parametrize("contrast", ["ct", "mr", "t2", "labels", "edges"])
def test_images_lie_in_range_and_only_background_is_minus_one(contrast):
    batch = draw(PhantomSlices(**TINY, A=contrast))
    assert set(batch) == {"A", "label_A"}
    assert batch["A"].shape == batch["label_A"].shape == (4, 1, 16, 16)
    assert (batch["A"].dtype, batch["label_A"].dtype) == (torch.float32, torch.int64)
    assert batch["A"].abs().max() <= 1
    if contrast != "edges":
        assert (batch["A"][batch["label_A"] == 0] == -1).all()
        assert (batch["A"][batch["label_A"] > 0] >= -0.998).all()


def test_a_slice_is_that_of_the_body_and_stands_upright():
    source = PhantomSlices(**TINY | {"bodies": 1, "slices": 1}, seed=5)
    image, label = (draw(source, count=1)[key][0, 0].numpy() for key in ("A", "label_A"))
    phantom = make_phantom((5, 0, 0), (16, 16, 1))
    assert label[0, 3] == phantom.labels[12, 15, 0]
    assert np.array_equal(label, phantom.labels[::-1, ::-1, 0].T)
    body = label > 0
    assert np.allclose(CT_WINDOW.denormalize(image)[body], phantom.ct[::-1, ::-1, 0].T[body], atol=3)


def test_pairs_show_one_slice_and_unpaired_domains_share_no_body():
    source = PhantomSlices(**TINY, B="mr")
    pair = draw(source, "paired", count=16)
    assert torch.equal(pair["label_A"], pair["label_B"])
    assert not torch.equal(pair["A"], pair["B"])
    apart = draw(source, "unpaired", count=64)
    seen = {key: {label.numpy().tobytes() for label in apart[f"label_{key}"]} for key in "AB"}
    assert not seen["A"] & seen["B"]


def test_splits_share_no_body():
    source = PhantomSlices(**TINY)
    seen = [
        {label.numpy().tobytes() for label in draw(source, split=split, count=64)["label_A"]}
        for split in ("train", "validation", "test")
    ]
    assert not seen[0] & seen[1] | seen[0] & seen[2] | seen[1] & seen[2]


def test_a_list_of_contrasts_has_classes():
    source = PhantomSlices(**TINY, A="mr", B=("ct", "t2"))
    assert source.num_classes == 2
    batch = draw(source, "paired", count=32)
    assert set(batch["class_B"].tolist()) == {0, 1}
    fat = [batch["B"][batch["class_B"] == kind][batch["label_B"][batch["class_B"] == kind] == 1] for kind in (0, 1)]
    assert fat[0].median() > -0.5 > -0.7 > fat[1].median()  # near -100 HU; near 140 of 1400
    assert PhantomSlices(**TINY, A=("ct", "mr")).num_classes == 2
    assert PhantomSlices(**TINY, A=("ct", "mr"), B="t2").num_classes == 0


def test_edges_lie_where_tissues_meet():
    batch = draw(PhantomSlices(**TINY, A="edges"))
    label, edge = batch["label_A"][:, 0], batch["A"][:, 0] > 0
    assert torch.equal(
        edge[:, :-1, :-1], (label[:, 1:, :-1] != label[:, :-1, :-1]) | (label[:, :-1, 1:] != label[:, :-1, :-1])
    )
    assert 0 < edge.float().mean() < 0.7


def test_bodies_are_rendered_once(monkeypatch):
    rendered = []

    def counted(seed, shape):
        rendered.append(seed)
        return make_phantom(seed, shape)

    monkeypatch.setattr(phantom_slices, "make_phantom", counted)
    source = PhantomSlices(**TINY, seed=987)
    for seed in range(8):
        draw(source, seed=seed)
    assert len(rendered) == len(set(rendered)) == 3


def test_it_reads_as_a_component_and_mistakes_are_named():
    target, options = bind(
        Component(name="phantom_slices", A="labels", B=["ct", "mr"]), {"phantom_slices": PhantomSlices}, "source"
    )
    assert target(**options).num_classes == 2
    with pytest.raises(InputError, match=r"phantom_slices.A"):
        bind(Component(name="phantom_slices", A="pet"), {"phantom_slices": PhantomSlices}, "source")
    with pytest.raises(InputError, match="each once"):
        PhantomSlices(**TINY, B=("ct", "ct"))
    with pytest.raises(InputError, match=r"data\.B: missing"):
        draw(PhantomSlices(**TINY), "paired")
