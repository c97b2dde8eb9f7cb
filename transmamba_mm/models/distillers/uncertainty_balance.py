from typing import Dict, Tuple

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn


class UncertaintyBalance(BaseModule):
    """Learn the weights of task and distillation with the student.

    Each loss L gets a learned log-variance s and counts as ``exp(-s) * L + s
    / 2``; the directions share one. Source: Kendall et al., `Multi-Task
    Learning Using Uncertainty to Weigh Losses
    <https://arxiv.org/abs/1705.07115>`_: the form for a classification,
    and, since ``1 - cos`` is half a squared distance of unit vectors, for the
    cosine terms as well. The limit is our choice.

    Args:
        with_logits (bool): Whether there is a term of the logits.
        limit (float): s stays within [-limit, limit], so that no loss is
            weighted by more than exp(limit). Defaults to 3.

    Raises:
        ValueError: If the limit is not positive.
    """

    def __init__(self, with_logits: bool, limit: float = 3.) -> None:
        super().__init__()
        if limit <= 0:
            raise ValueError('distiller.balance of kind uncertainty needs '
                             f'limit > 0, got {limit}.')
        self.limit = limit
        self.names = ('task', 'feat') + ('logit', ) * with_logits
        self.log_variances = nn.Parameter(torch.zeros(len(self.names)))

    def forward(self, task: Tensor, terms: Dict[str, Tensor], progress: float,
                shared: tuple) -> Tuple[Tensor, Dict[str, Tensor]]:
        """Weigh the losses.

        Args:
            task (Tensor): The task's loss.
            terms (Dict[str, Tensor]): The distillation terms.
            progress (float): Scale that is in the terms already; the learned
                part of these is scaled alike.
            shared (tuple): Not used.

        Returns:
            Tuple[Tensor, Dict[str, Tensor]]: The task's loss and the terms,
            with the weights as 'balance_*' and the sum of s / 2 as
            'loss_balance'.
        """
        kept = self.log_variances.clamp(-self.limit, self.limit)
        weights = dict(zip(self.names, (-kept).exp()))
        scaled = {}
        for key, value in terms.items():
            name = 'logit' if key == 'loss_logit' else 'feat'
            scaled[key] = weights[name] * value if 'loss' in key else value
        scaled['loss_balance'] = (kept[0] + progress * kept[1:].sum()) / 2
        scaled.update({f'balance_{k}': v.detach() for k, v in weights.items()})
        return weights['task'] * task, scaled
