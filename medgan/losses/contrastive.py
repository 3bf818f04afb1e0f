"""What a translation has to keep, said by contrast: each place is more like its own source than like other places."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def patch_nce(queries: Tensor, keys: Tensor, temperature: float = 0.07) -> Tensor:
    """How badly each query picks its own key out of all keys of its image, a scalar from 0 upwards.

    Cross-entropy of cosine similarities over `temperature`; the log of the number of places where features tell
    nothing apart. No gradient flows into the keys.

    Park et al., "Contrastive Learning for Unpaired Image-to-Image Translation", 2020, Equations 3 and 4, with the other
    places of the same image as negatives ("internal").

    Args:
        queries: features of the translation at S places, ``(B, S, F)``, of any length.
        keys: features of the source at the same places, ``(B, S, F)``.
        temperature: 0.07 in the paper.
    """
    with torch.autocast(queries.device.type, enabled=False):  # similarities over 0.07 need more than eight bits
        query, key = F.normalize(queries.float(), dim=-1), F.normalize(keys.detach().float(), dim=-1)
        logits = query @ key.transpose(1, 2) / temperature
        own = torch.arange(logits.shape[1], device=logits.device).expand(logits.shape[:2])
        return F.cross_entropy(logits.flatten(0, 1), own.flatten())
