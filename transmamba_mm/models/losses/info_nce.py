from typing import Optional

import torch.nn.functional as F
from torch import Tensor


def info_nce(similarity: Tensor,
             target: Tensor,
             ignored: Optional[Tensor] = None) -> Tensor:
    """Compute the contrastive loss of one direction.

    Args:
        similarity (Tensor): Scaled similarities (B, N) of B queries and N
            candidates.
        target (Tensor): Index of the right candidate of each query, (B,).
        ignored (Tensor, optional): True for candidates that are neither right
            nor wrong, (B, N). Defaults to None.

    Returns:
        Tensor: Scalar, the mean over the queries.
    """
    similarity = similarity.float()
    if ignored is not None:
        similarity = similarity.masked_fill(ignored, -1e4)
    return F.cross_entropy(similarity, target)
