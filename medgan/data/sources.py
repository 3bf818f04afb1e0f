"""The sources that a configuration can name."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from medgan.config import Component, bind
from medgan.data.digits import Digits
from medgan.data.images import Images
from medgan.data.phantom_films import PhantomFilms
from medgan.data.phantom_slices import PhantomSlices
from medgan.data.source import Source, SourceDataset
from medgan.data.toy import Grid, Ring

SOURCES: dict[str, Callable[..., Source]] = {
    "ring": Ring,
    "grid": Grid,
    "phantom_slices": PhantomSlices,
    "phantom_films": PhantomFilms,
    "digits": Digits,
    "images": Images,
}

__all__ = ["SOURCES", "Source", "SourceDataset", "source"]


def source(choice: Component) -> Source:
    """The source that a configuration names.

    Raises:
        InputError: an unknown name or option, or nothing to read.
    """
    target, options = bind(choice, SOURCES, "source")
    return cast(Source, target(**options))
