"""The volumes of cases that a page holds reduced, in full, in files beside the page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from medgan.report.page import written
from medgan.report.viewer import full_script, viewer_html
from medgan.report.views import Views


class VolumesBeside:
    """The folder ``<page>_volumes`` beside a page: a script per case that the page holds reduced, loaded on request.

    Args:
        page: path of the page.
        wanted: whether there is to be such a folder.
    """

    def __init__(self, page: Path, *, wanted: bool) -> None:
        self.folder = page.with_name(f"{page.stem}_volumes")
        self.wanted = wanted
        self._files: set[Path] = set()

    def viewer(self, name: str, views: Views, limit: int, colours: Mapping[int, str], names: Mapping[str, str]) -> str:
        """A case's part of the page (see `viewer_html`); its volumes in full are written beside the page.

        Args:
            name: of the case, no other one's.
            views: what can be looked at.
            limit: voxels that the page holds of a volume; 0: no viewer, an empty part.
            colours: of the labels, ``#rrggbb``.
            names: paths to tell beside reduced images, by kind.
        """
        if not limit:
            return ""
        script = full_script(views, limit, colours) if self.wanted else None
        if script is None:
            return viewer_html(views, limit, colours, names)
        file = written(self.folder / f"{name}.js", script)
        self._files.add(file)
        return viewer_html(views, limit, colours, names, quote(f"{self.folder.name}/{file.name}"))

    def tidied(self, page: Path) -> Path:
        """`page` again, once what an earlier page of this name had beside it and this one has not is removed."""
        for file in self.folder.glob("*.js"):
            if file not in self._files:
                file.unlink()
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()
        return page
