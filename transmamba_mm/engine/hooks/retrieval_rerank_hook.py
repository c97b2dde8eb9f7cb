from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor

from transmamba_mm.registry import HOOKS


@HOOKS.register_module()
class RetrievalRerankHook(Hook):
    """Let the model's head judge the best candidates of an evaluation again.

    Gives ``model.head.score`` to each evaluator that has a ``rerank_topk``
    above 0, such as ``TextVideoRetrievalMetric``.

    Raises:
        TypeError: Such an evaluator meets a head that cannot re-rank.

    Examples:
        >>> custom_hooks = [dict(type='transmamba_mm.RetrievalRerankHook')]
    """

    def before_val(self, runner: Runner) -> None:
        """Prepare a validation.

        Args:
            runner (Runner): The runner.
        """
        self._connect(runner, runner.val_loop.evaluator)

    def before_test(self, runner: Runner) -> None:
        """Prepare a test.

        Args:
            runner (Runner): The runner.
        """
        self._connect(runner, runner.test_loop.evaluator)

    def _connect(self, runner: Runner, evaluator: Any) -> None:
        model = runner.model
        model = model.module if is_model_wrapper(model) else model
        for metric in evaluator.metrics:
            if not getattr(metric, 'rerank_topk', 0):
                continue
            if not getattr(model.head, 'reranks', False):
                raise TypeError(
                    f'model.head of type {type(model.head).__name__} cannot '
                    're-rank; use CrossMambaHead or set rerank_topk=0 in the '
                    'evaluator')

            def score(*tokens: Tensor) -> Tensor:
                device = next(model.head.parameters()).device
                model.head.eval()
                with torch.no_grad():
                    return model.head.score(*(x.to(device) for x in tokens))

            metric.reranker = score
