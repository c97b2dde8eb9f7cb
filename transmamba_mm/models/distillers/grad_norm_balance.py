from typing import Dict, Sequence, Tuple

import torch
from mmengine.dist import all_reduce
from mmengine.model import BaseModule
from torch import Tensor

#: Keeps small gradients above the least float16 while they are measured.
SCALE = 1024.


class GradNormBalance(BaseModule):
    """Keep the distillation's pull at a given ratio of the task's.

    Every few iterations the gradients of both losses with respect to the
    weights of the student's first trained block are measured, and all
    distillation terms are scaled so that the norm of theirs is ``ratio``
    times that of the task's. The factor is smoothed, the same on all
    processes, and kept in the checkpoints. Our choice, after Chen et al.,
    `GradNorm <https://arxiv.org/abs/1711.02257>`_, which learns its weights.

    Args:
        ratio (float): Norm of the distillation's gradient over the task's.
            Defaults to 1.
        momentum (float): Share of the old factor, on a logarithmic scale, in
            a new one. Defaults to 0.9.
        interval (int): Iterations between two measurements; one costs two
            more backward passes. Defaults to 10.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self,
                 ratio: float = 1.,
                 momentum: float = 0.9,
                 interval: int = 10) -> None:
        super().__init__()
        if ratio <= 0 or not 0 <= momentum < 1 or interval < 1:
            raise ValueError(
                'distiller.balance of kind grad_norm needs ratio > 0, 0 <= '
                'momentum < 1 and interval >= 1, got '
                f'ratio={ratio}, momentum={momentum}, interval={interval}.')
        self.ratio = ratio
        self.momentum = momentum
        self.interval = interval
        # 0 as long as nothing was measured
        self.register_buffer('factor', torch.zeros(()))

    def is_due(self, iteration: int) -> bool:
        """Tell whether an iteration measures.

        Args:
            iteration (int): Number of the iteration in its stage, from 0.

        Returns:
            bool: True in every ``interval``-th one.
        """
        return iteration % self.interval == 0

    def forward(self, task: Tensor, terms: Dict[str, Tensor], progress: float,
                shared: Sequence[Tensor]) -> Tuple[Tensor, Dict[str, Tensor]]:
        """Scale the terms.

        Args:
            task (Tensor): The task's loss, weighted.
            terms (Dict[str, Tensor]): The distillation terms.
            progress (float): Scale that is in the terms already, and stays.
            shared (Sequence[Tensor]): Weights that both losses train; none
                in an iteration that does not measure.

        Returns:
            Tuple[Tensor, Dict[str, Tensor]]: The task's loss and the terms,
            with the factor as 'balance_factor'.
        """
        if shared:
            total = sum(v for k, v in terms.items() if 'loss' in k)
            self._measure(task, total / progress, shared)
        # clone: the buffer must not change before the backward
        factor = torch.where(self.factor > 0, self.factor,
                             torch.ones_like(self.factor)).clone()
        scaled = {
            k: factor * v if 'loss' in k else v
            for k, v in terms.items()
        }
        return task, dict(scaled, balance_factor=factor)

    def _measure(self, task: Tensor, total: Tensor,
                 shared: Sequence[Tensor]) -> None:
        """Renew the factor."""
        if not total.requires_grad:
            return
        norms = torch.stack(
            [gradient_norm(loss, shared) for loss in (task, total)])
        all_reduce(norms, op='mean')
        new = self.ratio * norms[0] / norms[1]
        smooth = (self.momentum * self.factor.log() +
                  (1 - self.momentum) * new.log()).exp()
        new = torch.where(self.factor > 0, smooth, new)
        usable = torch.isfinite(new) & (new > 0)
        self.factor.copy_(torch.where(usable, new, self.factor))


def gradient_norm(loss: Tensor, tensors: Sequence[Tensor]) -> Tensor:
    """Norm of a loss's gradient with respect to some tensors of its graph.

    The graph stays, and no ``grad`` is touched.

    Args:
        loss (Tensor): Scalar.
        tensors (Sequence[Tensor]): Tensors that the loss may depend on.

    Returns:
        Tensor: Scalar float32, of all gradients together; 0 if the loss
        depends on none.
    """
    device = tensors[0].device
    with torch.autocast(device.type, enabled=False):
        gradients = torch.autograd.grad(
            SCALE * loss, tensors, retain_graph=True, allow_unused=True)
    norms = [g.float().norm() for g in gradients if g is not None]
    if not norms:
        return torch.zeros((), device=device)
    return torch.stack(norms).norm() / SCALE
