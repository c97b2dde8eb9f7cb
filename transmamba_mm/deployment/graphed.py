import logging
from typing import Any, Callable, Optional

import torch
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from transmamba_mm.utils.cuda_graph import capture


def graphed(model: nn.Module,
            example: Tensor,
            dtype: Optional[torch.dtype] = None,
            warmup: int = 3) -> Callable[[Tensor], Any]:
    """Serve a model by a CUDA graph: one launch instead of hundreds.

    The values are those of the model in eval mode without gradients. Inputs
    with the shape, dtype and device of the example replay the graph; all
    others are run operation by operation, and so is everything if the example
    is on a CPU. Weights that are changed in place, as ``load_state_dict``
    does, count from the next call on; a model that is moved or whose
    parameters are replaced needs a new graph.

    Args:
        model (nn.Module): Called with one tensor; put into eval mode.
        example (Tensor): Input like those to come, on the model's device.
        dtype (torch.dtype, optional): Lower precision for autocast over the
            model's own weights. Defaults to None, the model's.
        warmup (int): Calls before the recording. Defaults to 3.

    Returns:
        Callable[[Tensor], Any]: Takes an input, returns new tensors in the
        structure that the model returns.

    Raises:
        RuntimeError: If the model cannot be recorded.

    Examples:
        >>> predict = graphed(model, torch.zeros(1, 3, 224, 224).cuda())
        >>> scores = predict(images)
    """
    return _Graphed(model.eval(), example, dtype, warmup)


class _Graphed:
    """A model with one input shape recorded; see :func:`graphed`."""

    def __init__(self, model: nn.Module, example: Tensor,
                 dtype: Optional[torch.dtype], warmup: int) -> None:
        self.model = model
        self.dtype = dtype
        self.graph = None
        self.inputs = example.detach().clone()
        if not _on_card(example):
            print_log(
                'graphed: a CUDA graph needs an example on a CUDA device, not '
                f'on {example.device}; the model is run operation by '
                'operation',
                logger='current',
                level=logging.WARNING)
            return
        with torch.cuda.device(example.device):
            self.graph, self.outputs = capture(lambda: self._run(self.inputs),
                                               warmup)

    def __call__(self, images: Tensor) -> Any:
        """Run the model.

        Args:
            images (Tensor): Input.

        Returns:
            Any: What the model returns.
        """
        if self.graph is None or not self._fits(images):
            return self._run(images)
        self.inputs.copy_(images)
        self.graph.replay()
        return tree_map(_copied, self.outputs)

    def _fits(self, images: Tensor) -> bool:
        return all(
            getattr(images, name) == getattr(self.inputs, name)
            for name in ('shape', 'dtype', 'device'))

    @torch.no_grad()
    def _run(self, images: Tensor) -> Any:
        with torch.autocast(
                images.device.type, self.dtype, enabled=self.dtype
                is not None):
            return self.model(images)


def _on_card(tensor: Tensor) -> bool:
    return tensor.device.type == 'cuda'


def _copied(value: Any) -> Any:
    """Copy an output, which the next replay overwrites."""
    return value.clone() if isinstance(value, Tensor) else value
