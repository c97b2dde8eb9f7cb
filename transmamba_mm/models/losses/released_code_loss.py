"""What the code released with the paper computes.

Glossary: g class token of the teacher after its final norm; h mean token of
the student after its final norm; h_l mean token after layer l = 1..N-1;
T temperature; H(p, q) = -(1/B) sum p log q over channels.

    L = 120 H(s(g/T), s(h/T)) + sum_l l H(s(g/T), s(h_l/T)),  s = softmax
"""
from typing import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class ReleasedCodeLoss(nn.Module):
    """Soft targets over channels, with the released fixed weights.

    Source: the authors' repository, which differs from the paper's text: no
    cosine, no adaptive weight, no direction, every layer pulled to the
    teacher's last feature. Kept so that users can compare.

    Args:
        temperature (float): T. Defaults to 2, as released.
        final_weight (float): Weight of the last feature. Defaults to 120, as
            released.
    """

    def __init__(self,
                 temperature: float = 2.,
                 final_weight: float = 120.) -> None:
        super().__init__()
        self.temperature = temperature
        self.final_weight = final_weight

    def forward(self, final: Tensor, layers: Sequence[Tensor],
                teacher: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            final (Tensor): h, shape (B, C).
            layers (Sequence[Tensor]): h_1 to h_{N-1}, each (B, C).
            teacher (Tensor): g, shape (B, C).

        Returns:
            Tensor: Scalar.
        """
        loss = self.final_weight * self._soft_target(final, teacher)
        for i, feature in enumerate(layers, start=1):
            loss = loss + i * self._soft_target(feature, teacher)
        return loss

    def _soft_target(self, student: Tensor, teacher: Tensor) -> Tensor:
        target = F.softmax(teacher.float() / self.temperature, dim=-1)
        return F.cross_entropy(student.float() / self.temperature, target)
