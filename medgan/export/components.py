"""What MONAI's configuration calls: volumes read and written as medgan does it, and the way of a volume in between.

A bundle carries this module and all that it imports, so it runs beside MONAI without medgan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from monai.data.image_reader import ImageReader
from monai.data.meta_tensor import MetaTensor
from monai.inferers.inferer import Inferer
from monai.transforms.transform import MapTransform
from torch import Tensor, nn

from medgan.config import InputError, validate
from medgan.data.volume import Volume, read_volume, write_volume
from medgan.preprocess.preparation import PreparedDomain
from medgan.translate.options import TranslateOptions
from medgan.translate.outputs import labels_path, plan_outputs
from medgan.translate.translator import VolumeTranslator

__all__ = ["VolumeInferer", "VolumeReader", "WriteVolumed", "load_weights", "volumes_of"]


def volumes_of(inputs: str | Sequence[str], output_dir: str) -> list[dict[str, str]]:
    """An item for each volume: ``image``, where it lies, and ``written``, where its translation goes.

    Args:
        inputs: a file, a folder with one DICOM series or a folder with image files; or several of these.
        output_dir: a folder.

    Raises:
        InputError: no such volume, an output that stands already or would fall onto an input or another output.
    """
    given = [inputs] if isinstance(inputs, str) else list(inputs)
    outputs = plan_outputs([Path(one) for one in given], Path(output_dir))
    for output in outputs:
        if not output.source.exists():
            raise InputError(f"{output.source}: no such file or folder; name volumes with --dataset_dir")
        for path in (output.image, output.labels):
            if path.exists():
                raise InputError(f"{path}: stands already; move it away or name another --output_dir")
    return [{"image": str(output.source), "written": str(output.image)} for output in outputs]


def load_weights(network: nn.Module, path: str, part: str, device: str | torch.device = "cpu") -> nn.Module:
    """The network with its part of a file of weights, on a device and ready to be used."""
    from safetensors.torch import load_file

    weights = load_file(path)
    own = {name.removeprefix(f"{part}."): value for name, value in weights.items() if name.startswith(f"{part}.")}
    network.load_state_dict(own)
    return network.to(device).eval()


class VolumeReader(ImageReader):
    """MONAI's `LoadImage` with the readers of medgan: NIfTI, NRRD, MetaImage, a folder with one DICOM series."""

    def verify_suffix(self, filename: Any) -> bool:
        """All names are tried; what cannot be read is refused with the reason."""
        return True

    def read(self, data: Any, **kwargs: Any) -> Volume | list[Volume]:
        """The volume of a path, or those of several."""
        if isinstance(data, str | Path):
            return read_volume(data)
        return [read_volume(one) for one in data]

    def get_data(self, img: Any) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
        """The array (X, Y, Z) and where it lies."""
        volume = cast(Volume, img[0] if isinstance(img, list) else img)
        meta = {
            "affine": volume.affine,
            "original_affine": volume.affine,
            "spatial_shape": np.asarray(volume.array.shape),
            "original_channel_dim": float("nan"),
            "space": "RAS",
            "filename_or_obj": str(volume.path),
        }
        return volume.array, meta


class VolumeInferer(Inferer):
    """From volumes in stored units to translations in stored units, on the same grid.

    The volume is prepared as those of the training were; the network then sees all of it under norms that no window
    decides, however large it is.
    """

    def __init__(
        self,
        source: Mapping[str, Any],
        target: Mapping[str, Any],
        patch_size: Sequence[int] | None,
        options: Mapping[str, Any],
        segmentor: nn.Module | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        """
        Args:
            source: how volumes of the source domain are prepared.
            target: the same of the target domain.
            patch_size: voxels of the training's patches.
            options: of translating.
            segmentor: of the target domain; its labels become the second channel.
            device: where networks run.
        """
        super().__init__()
        self.source = validate(PreparedDomain, dict(source), "source")
        self.target = validate(PreparedDomain, dict(target), "target")
        self.options = validate(TranslateOptions, dict(options), "options")
        self.patch_size = None if patch_size is None else (patch_size[0], patch_size[1], patch_size[2])
        self.segmentor, self.device = segmentor, torch.device(device)
        self._translators: dict[Callable[..., Any], VolumeTranslator] = {}

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> MetaTensor:
        """``(1, 1, X, Y, Z)`` in stored units to ``(1, 2, X, Y, Z)``: the translation and, or 0, its labels."""
        if inputs.shape[:2] != (1, 1) or not isinstance(inputs, MetaTensor):
            raise InputError(f"input of shape {tuple(inputs.shape)}: give one volume of one channel with its affine")
        if network not in self._translators:
            self._translators[network] = VolumeTranslator(
                cast(nn.Module, network),
                self.segmentor,
                source=self.source,
                target=self.target,
                patch_size=self.patch_size,
                options=self.options,
                device=self.device,
            )
        array = inputs.as_tensor()[0, 0].cpu().numpy()
        affine = inputs.affine.reshape(-1, 4, 4)[0].cpu().numpy().astype(np.float64)
        made = self._translators[network].translate(Volume(array, affine, None, array.shape, None))
        labels = np.zeros(array.shape, dtype=np.float32) if made.segmentation is None else made.segmentation
        both = torch.from_numpy(np.stack([made.image.astype(np.float32), labels.astype(np.float32)]))[None]
        return MetaTensor(both, meta=inputs.meta)


class WriteVolumed(MapTransform):
    """Write what `VolumeInferer` makes as NIfTI on the grid of the source, its matrices and codes included."""

    def __init__(self, keys: str = "pred", modality: str = "other", segmentation: bool = True) -> None:
        """
        Args:
            keys: of the prediction.
            modality: of the target; "ct" is written as whole HU.
            segmentation: whether there are labels to write beside the image.
        """
        super().__init__(keys)
        self.dtype = np.int16 if modality == "ct" else np.float32
        self.segmentation = segmentation

    def __call__(self, data: Any) -> Any:
        like, path = read_volume(str(data["image"].meta["filename_or_obj"])), Path(str(data["written"]))
        for key in self.keys:
            image, labels = data[key].as_tensor().cpu().numpy()
            if self.segmentation:
                write_volume(labels_path(path), labels.astype(np.uint8 if labels.max() < 256 else np.int16), like)
            write_volume(path, image.astype(self.dtype), like)
        return data
