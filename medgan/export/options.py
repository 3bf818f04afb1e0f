"""What the people behind a run say of it, for those who get the export."""

from __future__ import annotations

from pydantic import Field

from medgan.config import StrictModel


class ExportOptions(StrictModel):
    """The `export:` section."""

    version: str = Field("0.1.0", pattern=r"^\d+\.\d+\.\d+$", description="of the exported model")
    authors: str = Field("not stated", min_length=1, description="who answers for the model")
    license: str = Field(
        "not stated", min_length=1, description="of the weights, such as CC-BY-4.0; the code is Apache-2.0"
    )
    data_source: str = Field("not stated", min_length=1, description="where the training's images come from")
    intended_use: str = Field(
        "Research. Not for diagnosis, treatment or any other clinical use.", min_length=1, description="and what not"
    )
