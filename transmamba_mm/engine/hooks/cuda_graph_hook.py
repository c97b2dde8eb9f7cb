import logging
from typing import Optional

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from transmamba_mm.registry import HOOKS
from ..graphed_train_step import GraphedTrainStep


@HOOKS.register_module()
class CUDAGraphHook(Hook):
    """Run the training step as one CUDA graph.

    Needs one process, a fused optimizer and bfloat16 or float32. On a machine
    without CUDA, with several processes, and with a ``CachedTeacher``,
    training goes on op by op and the log says so. Batches of another size
    than the first, and steps while the distillation is warming up, are run op
    by op too.

    Args:
        warmup (int): Steps that are run op by op before a graph is made.
            Defaults to 3.

    Raises:
        ValueError: If ``warmup`` is below 1; before training, if the
            optimizer does not fit.

    Examples:
        >>> optim_wrapper = dict(optimizer=dict(fused=True))
        >>> default_hooks = dict(
        ...     cuda_graph=dict(type='transmamba_mm.CUDAGraphHook'))
    """

    priority = 'VERY_LOW'

    def __init__(self, warmup: int = 3) -> None:
        if warmup < 1:
            raise ValueError(f'CUDAGraphHook.warmup={warmup}, but it must be '
                             'at least 1.')
        self.warmup = warmup

    def before_train(self, runner: Runner) -> None:
        """Put the graph in the place of the model's training step.

        Args:
            runner (Runner): The runner.
        """
        reason = _obstacle(runner)
        if reason is not None:
            print_log(
                f'CUDAGraphHook: no graph with {reason}, training goes on op '
                'by op',
                logger='current',
                level=logging.WARNING)
            return
        runner.model.train_step = GraphedTrainStep(runner.model,
                                                   runner.optim_wrapper,
                                                   self.warmup)

    def after_train(self, runner: Runner) -> None:
        """Give the model its own step back.

        Args:
            runner (Runner): The runner.
        """
        vars(runner.model).pop('train_step', None)


def _obstacle(runner: Runner) -> Optional[str]:
    """Say why there can be no graph, None if there can."""
    teachers = [getattr(hook, 'teacher', None) for hook in runner.hooks]
    if any(getattr(teacher, 'uses_host', False) for teacher in teachers):
        return 'features from the disk (CachedTeacher)'
    if get_world_size() > 1:
        return 'several processes'
    device = next(runner.model.parameters()).device
    return None if device.type == 'cuda' else f'the device {device}'
