"""What the names of files, folders and domains say of their contents."""

from __future__ import annotations

import re

from medgan.data.cases import Modality

_MODALITIES: dict[str, Modality] = {
    **dict.fromkeys(("ct", "cbct", "hu"), "ct"),
    **dict.fromkeys(("mr", "mri", "t1", "t1w", "t2", "t2w", "flair", "pd", "pdw", "dwi", "adc", "swi", "dixon"), "mr"),
    "mprage": "mr",
}


def words(name: str) -> set[str]:
    """The words of a name, in lower case: letters and digits between anything else."""
    return set(re.split(r"[^a-z0-9]+", name.lower())) - {""}


def named_modality(*names: str) -> Modality | None:
    """The modality that a name says, such as "mr" for ``patient_T1w``: of several names, the first that says any; None
    where that one says two, or none says any."""
    for name in names:
        found = {_MODALITIES[word] for word in words(name) if word in _MODALITIES}
        if found:
            return found.pop() if len(found) == 1 else None
    return None
