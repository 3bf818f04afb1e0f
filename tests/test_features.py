"""Features of volumes for distances between distributions."""

import pytest
import torch
from torch import Tensor, nn

from medgan.networks.features import PLANES, SegmentorEncoder, body_features
from medgan.networks.segmentor import SegResNetSegmentor, UNetSegmentor

CPU = torch.device("cpu")


class Coarse:
    """The image itself at half the size: means of 2 x 2 (x 2) voxels."""

    def __init__(self, spatial_dims: int) -> None:
        self.spatial_dims = spatial_dims

    def __call__(self, image: Tensor) -> Tensor:
        pool = nn.functional.avg_pool2d if self.spatial_dims == 2 else nn.functional.avg_pool3d
        return pool(image, 2)


def ramp() -> Tensor:
    """(1, 1, 8, 4, 4) with values that grow along the first axis."""
    return torch.linspace(0, 0.7, 8).view(1, 1, 8, 1, 1).expand(1, 1, 8, 4, 4).clone()


@pytest.mark.parametrize("tile", [(8, 4, 4), (4, 4, 4), (6, 6, 6)])
def test_a_slice_s_feature_is_its_mean_over_the_body_whatever_the_tiles(tile: tuple[int, int, int]) -> None:
    image, body = ramp(), torch.ones(1, 1, 8, 4, 4, dtype=torch.bool)
    found = body_features(Coarse(3), image, body, tile=tile, device=CPU)
    assert found["sagittal"].flatten().tolist() == pytest.approx([0.05, 0.25, 0.45, 0.65], abs=1e-6)
    assert found["coronal"].flatten().tolist() == pytest.approx([0.35, 0.35], abs=1e-6)
    assert found["axial"].shape == (2, 1)
    assert found["volume"].flatten().tolist() == pytest.approx([0.35], abs=1e-6)


def test_only_the_body_counts_and_slices_without_it_have_no_feature() -> None:
    image, body = ramp(), torch.zeros(1, 1, 8, 4, 4, dtype=torch.bool)
    body[:, :, 2:6] = True
    image[:, :, 6:] = 100
    found = body_features(Coarse(3), image, body, tile=(8, 4, 4), device=CPU)
    assert found["sagittal"].flatten().tolist() == pytest.approx([0.25, 0.45], abs=1e-6)
    assert found["axial"].flatten().tolist() == pytest.approx([0.35, 0.35], abs=1e-6)


def test_a_network_of_slices_sees_each_slice_of_each_plane() -> None:
    image, body = ramp(), torch.ones(1, 1, 8, 4, 4, dtype=torch.bool)
    found = body_features(Coarse(2), image, body, tile=(8, 4, 4), device=CPU)
    assert set(found) == set(PLANES)
    assert found["sagittal"].flatten().tolist() == pytest.approx([0.1 * i for i in range(8)], abs=1e-6)
    assert found["coronal"].flatten().tolist() == pytest.approx([0.35] * 4, abs=1e-6)


@pytest.mark.parametrize(("kind", "multiple", "width"), [(SegResNetSegmentor, 4, 32), (UNetSegmentor, 16, 64)])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_a_segmentor_s_encoder_gives_its_coarsest_map(kind: type, multiple: int, width: int, spatial_dims: int) -> None:
    extractor = SegmentorEncoder(kind(spatial_dims, 1, 3, channels=8)).eval()
    maps = extractor(torch.zeros(1, 1, *(17,) * spatial_dims))
    assert maps.shape == (1, width, *(-(-17 // multiple),) * spatial_dims)
    assert extractor.spatial_dims == spatial_dims


def test_the_map_is_what_the_segmentor_decodes() -> None:
    network = SegResNetSegmentor(2, 1, 3, channels=8, levels=1).eval()
    image = torch.rand(1, 1, 8, 8)
    maps, skips = network.body.encode(image)
    assert torch.equal(network.encode(image), maps)
    assert torch.equal(network.body.decode(maps, skips[::-1]), network(image))


def test_a_network_without_an_encoder_says_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"Linear has no encode.*translate\.extractor"):
        SegmentorEncoder(nn.Linear(1, 1))
