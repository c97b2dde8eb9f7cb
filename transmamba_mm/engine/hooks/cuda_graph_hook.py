import logging

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
    without CUDA, and with several processes, training goes on op by op and
    the log says so. Batches of another size than the first, and steps while
    the distillation is warming up, are run op by op too.

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
        device = next(runner.model.parameters()).device
        if device.type != 'cuda' or get_world_size() > 1:
            reason = ('several processes'
                      if device.type == 'cuda' else f'the device {device}')
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
