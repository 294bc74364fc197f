"""Lesions: what a film looks like from a brain of which some voxels are gone.

`silence` sets responses to nothing while the readout still expects them: damage as the brain itself would feel it.
`missing` also tells the readout, so the film is rebuilt from what the other voxels still carry.

T TRs, V voxels, R compressed responses, K latents.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from giblet_train.model.compress import Compression, Matrix
from giblet_train.model.network import BrainModel

Mode = Literal["silence", "missing"]


def lesioned_latents(
    model: BrainModel, compression: Compression, bold: Mapping[str, Matrix], kept_V: NDArray[np.bool_], mode: Mode
) -> Tensor:
    """Latents (T, K) read from all subjects' responses, (T, V) each, after a lesion. kept_V: which voxels remain."""
    scores_TR = np.sum([compression.scores_of(s, bold_TV * kept_V) for s, bold_TV in bold.items()], axis=0)
    gram_RR = None
    if mode == "missing":
        kept = kept_V.astype(np.float32)
        gram_RR = torch.from_numpy(np.sum([compression.gram(s, kept) for s in bold], axis=0))
    return model.read(torch.from_numpy(scores_TR), gram_RR)
