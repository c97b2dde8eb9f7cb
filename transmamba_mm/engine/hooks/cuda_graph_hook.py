import logging
from contextlib import ExitStack
from typing import List, Optional

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import nn

from transmamba_mm.registry import HOOKS
from transmamba_mm.utils.compile_blocks import compiled_blocks
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
        compile (bool): Whether ``torch.compile`` joins the small operations
            of each block of the student and of the teacher first; see
            :func:`transmamba_mm.utils.compile_blocks.compiled_blocks`. Worth
            its time in all but short trainings. Defaults to False.

    Raises:
        ValueError: If ``warmup`` is below 1; before training, if the
            optimizer does not fit.

    Examples:
        >>> optim_wrapper = dict(optimizer=dict(fused=True))
        >>> default_hooks = dict(
        ...     cuda_graph=dict(type='transmamba_mm.CUDAGraphHook'))
    """

    priority = 'VERY_LOW'

    def __init__(self, warmup: int = 3, compile: bool = False) -> None:
        if warmup < 1:
            raise ValueError(f'CUDAGraphHook.warmup={warmup}, but it must be '
                             'at least 1.')
        self.warmup = warmup
        self.compile = compile
        self._stack = ExitStack()

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
        if self.compile:
            count = self._stack.enter_context(
                compiled_blocks(runner.model, *_teachers(runner)))
            print_log(
                f'CUDAGraphHook: {count} parts are compiled',
                logger='current')
        runner.model.train_step = GraphedTrainStep(runner.model,
                                                   runner.optim_wrapper,
                                                   self.warmup)

    def after_train(self, runner: Runner) -> None:
        """Give the model its own step back.

        Args:
            runner (Runner): The runner.
        """
        vars(runner.model).pop('train_step', None)
        self._stack.close()


def _teachers(runner: Runner) -> List[nn.Module]:
    teachers = [getattr(hook, 'teacher', None) for hook in runner.hooks]
    return [t for t in teachers if isinstance(t, nn.Module)]


def _obstacle(runner: Runner) -> Optional[str]:
    """Say why there can be no graph, None if there can."""
    if any(getattr(t, 'uses_host', False) for t in _teachers(runner)):
        return 'features from the disk (CachedTeacher)'
    if get_world_size() > 1:
        return 'several processes'
    device = next(runner.model.parameters()).device
    return None if device.type == 'cuda' else f'the device {device}'
