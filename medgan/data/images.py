"""Images of a folder as samples: pictures, or the axial slices of volumes."""

from __future__ import annotations

import glob
import hashlib
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError
from pydantic import Field
from torch import Tensor

from medgan.config import InputError
from medgan.data.cases import Split
from medgan.data.grid import GridMap, triple
from medgan.data.source import Pairing, Source
from medgan.data.volume import IMAGE_SUFFIXES, read_volume

_PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


class Images(Source):
    """Pictures (PNG, JPEG, TIFF, BMP), or volumes of which each axial slice is an image, by glob.

    Each is brought to one size with its sides' ratio kept; what is missing is filled with the lowest value. A file is
    in one split, with all of its slices. Where `classes` is true, the folder that a file lies in is its class.
    """

    def __init__(
        self,
        *,
        files: Annotated[str, Field(description="glob of the files, such as 'slices/**/*.png' or 'ct/*.nii.gz'")],
        size: Annotated[int, Field(ge=4, description="pixels of a side")] = 64,
        channels: Annotated[int, Field(ge=1, le=3, description="1 for grey, 3 for colour")] = 1,
        low: Annotated[float, Field(description="stored value that becomes -1; such as -1000 HU")] = 0.0,
        high: Annotated[float, Field(description="stored value that becomes 1; 255 for most pictures")] = 255.0,
        classes: Annotated[list[str], Field(description="folders that are classes, in order; [] for none")] = [],  # noqa: B006 (read only)
        validation_fraction: Annotated[float, Field(ge=0, lt=1, description="share of the files held out")] = 0.1,
        test_fraction: Annotated[float, Field(ge=0, lt=1, description="share of the files held out")] = 0.1,
        flip: Annotated[bool, Field(description="also learn from mirror images, left to right")] = False,
    ) -> None:
        self.image_shape = (channels, size, size)
        self.num_classes = len(classes)
        self.files, self.low, self.high, self.classes, self.flip = files, low, high, list(classes), flip
        self.fractions = test_fraction, validation_fraction
        if high <= low:
            raise InputError(f"data.high: {high:g} is not above data.low {low:g}; give the range of the stored values")
        if channels == 2:
            raise InputError("data.channels: 2; give 1 for grey or 3 for colour")

    def draw(self, rng: np.random.Generator, count: int, split: Split, pairing: Pairing) -> dict[str, Tensor]:
        """Images of a split, each as likely as any other."""
        images, classes = self._of[split]
        if not len(images):
            raise InputError(f"{self.files}: no image in the {split} split; add files or raise data.{split}_fraction")
        chosen = torch.from_numpy(rng.integers(len(images), size=count))
        drawn = images[chosen]
        if self.flip and split == "train":
            turned = torch.from_numpy(rng.random(count) < 0.5)
            drawn = torch.where(turned[:, None, None, None], drawn.flip(-1), drawn)
        return {"A": drawn} | ({"class_A": classes[chosen]} if self.num_classes else {})

    @cached_property
    def _of(self) -> dict[Split, tuple[Tensor, Tensor]]:
        """All images and classes by split, read once."""
        found: dict[Split, list[tuple[Tensor, int]]] = {"train": [], "validation": [], "test": []}
        paths = [Path(name) for name in sorted(glob.glob(self.files, recursive=True))]  # noqa: PTH207 (may be absolute)
        if not paths:
            raise InputError(f"{self.files}: no files; check the glob (relative to the configuration's folder)")
        for path in paths:
            split = self._split(path)
            found[split] += [(image, self._class(path)) for image in self._read(path)]
        empty = torch.empty(0, *self.image_shape)
        return {
            split: (
                torch.stack([image for image, _ in items]) if items else empty,
                torch.tensor([number for _, number in items], dtype=torch.int64),
            )
            for split, items in found.items()
        }

    def _split(self, path: Path) -> Split:
        """Drawn by the file's name, so that a file keeps its split when others come or go."""
        name = path.name if not self.classes else f"{path.parent.name}/{path.name}"
        share = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
        test, validation = self.fractions
        return "test" if share < test else "validation" if share < test + validation else "train"

    def _class(self, path: Path) -> int:
        if not self.classes:
            return 0
        if path.parent.name not in self.classes:
            raise InputError(f"{path}: lies in no class folder; move it, or name '{path.parent.name}' in data.classes")
        return self.classes.index(path.parent.name)

    def _read(self, path: Path) -> list[Tensor]:
        name = path.name.lower()
        if name.endswith(_PICTURES):
            return [self._fitted(torch.from_numpy(self._picture(path)))]
        if name.endswith(IMAGE_SUFFIXES):
            volume = read_volume(path, dtype=np.float32)
            upright = GridMap.plan(triple(volume.array.shape), volume.affine).to_working(volume.array, 1)
            cuts = torch.from_numpy(np.nan_to_num(upright, nan=self.low)).permute(2, 1, 0).flip(1)
            return [self._fitted(cut.expand(self.image_shape[0], -1, -1)) for cut in cuts]
        raise InputError(f"{path}: neither a picture nor a volume; narrow data.files")

    def _picture(self, path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        try:
            with Image.open(path) as picture:
                is_deep = picture.mode.startswith(("I", "F"))
                converted = picture if is_deep else picture.convert("L" if self.image_shape[0] == 1 else "RGB")
                pixels = np.asarray(converted, dtype=np.float32)
        except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
            raise InputError(f"{path}: not a picture that can be read ({type(error).__name__}); mend it") from None
        planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        return np.array(np.broadcast_to(planes, (self.image_shape[0], *planes.shape[1:])))

    def _fitted(self, image: Tensor) -> Tensor:
        """`image` (C, H, W) in stored values to `image_shape` in [-1, 1]."""
        size = self.image_shape[-1]
        scale = size / max(image.shape[1:])
        height, width = (max(1, round(length * scale)) for length in image.shape[1:])
        small = F.interpolate(image[None].contiguous(), (height, width), mode="bilinear", antialias=True)[0]
        scaled = ((small - self.low) / (self.high - self.low) * 2 - 1).clamp(-1, 1)
        top, left = (size - height) // 2, (size - width) // 2
        return F.pad(scaled, (left, size - width - left, top, size - height - top), value=-1.0)
