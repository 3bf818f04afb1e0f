"""Translate 3D medical volumes between modalities with segmentation-consistent GANs.

>>> from medgan import load_translator
>>> to_ct = load_translator("runs/x", "BA")
>>> ct = to_ct("mr.nii.gz")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medgan.config import InputError
    from medgan.translate import load_translator

    __version__: str

__all__ = ["InputError", "__version__", "load_translator"]


def __getattr__(name: str) -> Any:
    """The public names, imported when first used: ``import medgan`` itself loads neither torch nor MONAI."""
    if name == "__version__":
        from importlib.metadata import version

        return version("medgan")
    if name == "InputError":
        from medgan.config import InputError

        return InputError
    if name == "load_translator":
        from medgan.translate import load_translator

        return load_translator
    raise AttributeError(f"module 'medgan' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
