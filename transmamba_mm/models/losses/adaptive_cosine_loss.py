"""Adaptive cosine loss over layers.

Glossary: c_l cosine between the aligned student feature and the teacher
feature of layer l, mean over batch and tokens; w_l its weight; N layers.

    default     w_l = stopgrad(mean_j max(c_j, eps) / max(c_l, eps))
                L = mean_l w_l (1 - c_l)
    paper_v1    L = sum_i sum_j (c_j / c_i) (1 - c_i)
"""
from typing import Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Keeps the literal weights of ``paper_v1`` finite.
TINY = 1e-6


class AdaptiveCosineLoss(nn.Module):
    """Pull layers together, the least similar ones most.

    Source: TransMamba, adaptive distillation. Our choices in the default
    variant: the weights carry no gradient (with it, a layer that is already
    well aligned would be pushed away), cosines are clamped from below in
    numerator and denominator, and the mean is taken over the layers, so that
    the scale does not grow with the depth; with several processes, each one
    weighs by its own batch.

    Args:
        variant (str): 'default', or 'paper_v1' for the literal double sum of
            the paper's first version, with gradients through the weights.
            Defaults to 'default'.
        eps (float): Lower clamp of the cosines in the weights of the default
            variant. Defaults to 0.1.
        adaptive (bool): Whether layers are weighted; if not, all weights are
            1, and 'paper_v1' is the plain sum over the layers. Defaults to
            True.
    """

    def __init__(self,
                 variant: str = 'default',
                 eps: float = 0.1,
                 adaptive: bool = True) -> None:
        super().__init__()
        if variant not in ('default', 'paper_v1'):
            raise ValueError(f"variant='{variant}' is unknown to "
                             "AdaptiveCosineLoss; use 'default' or "
                             "'paper_v1'.")
        if not 0 < eps <= 1:
            raise ValueError(
                f'distiller.eps={eps}, but it must lie in (0, 1].')
        self.variant = variant
        self.eps = eps
        self.adaptive = adaptive

    def forward(self, student: Sequence[Tensor],
                teacher: Sequence[Tensor]) -> Tuple[Tensor, Tensor, Tensor]:
        """Compare features layer by layer.

        Args:
            student (Sequence[Tensor]): N aligned features (B, L, C).
            teacher (Sequence[Tensor]): N features (B, L, C), no gradient.

        Returns:
            Tuple[Tensor, Tensor, Tensor]: Loss (), cosines (N,) and weights
            (N,), the last two detached, all float32.
        """
        cosines = torch.stack(
            [token_cosine(s, t) for s, t in zip(student, teacher)])
        if not self.adaptive:
            weights = torch.ones_like(cosines)
        elif self.variant == 'paper_v1':
            weights = literal_weights(cosines)
        else:
            weights = adaptive_weights(cosines, self.eps)
        terms = weights * (1 - cosines)
        loss = terms.sum() if self.variant == 'paper_v1' else terms.mean()
        return loss, cosines.detach(), weights.detach()


def token_cosine(x: Tensor, y: Tensor) -> Tensor:
    """Mean cosine between the tokens of two features, in float32.

    Args:
        x (Tensor): Shape (..., C).
        y (Tensor): Shape (..., C).

    Returns:
        Tensor: Scalar.
    """
    with torch.autocast(x.device.type, enabled=False):
        return F.cosine_similarity(x.float(), y.float(), dim=-1).mean()


def adaptive_weights(cosines: Tensor, eps: float) -> Tensor:
    """Weigh layers by how badly they are aligned.

    Args:
        cosines (Tensor): Shape (N,).
        eps (float): Lower clamp.

    Returns:
        Tensor: Weights (N,) without gradient, about 1 on average.
    """
    clamped = cosines.detach().clamp(min=eps)
    return clamped.mean() / clamped


def literal_weights(cosines: Tensor) -> Tensor:
    """Weights of the paper's double sum: sum_j c_j / c_i, with gradient.

    Args:
        cosines (Tensor): Shape (N,).

    Returns:
        Tensor: Weights (N,); a cosine within 1e-6 of zero counts as 1e-6
        (our choice, the paper's formula is singular there).
    """
    safe = torch.where(cosines.abs() < TINY, torch.full_like(cosines, TINY),
                       cosines)
    return cosines.sum() / safe
