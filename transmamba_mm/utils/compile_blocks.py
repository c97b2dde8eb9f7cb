"""Compilation of the blocks of a network, one by one."""
from contextlib import contextmanager
from typing import Iterator

import torch
from mmcv.cnn.bricks import DropPath
from mmpretrain.models.backbones.vision_transformer import \
    TransformerEncoderLayer
from torch import nn

from transmamba_mm.models.layers import MambaBlock
from transmamba_mm.models.losses import AdaptiveCosineLoss

#: Which method is compiled, of blocks and of the loss on their features. It
#: calls no module whose hooks a recorder may listen to.
METHODS = {
    MambaBlock: 'mix',
    TransformerEncoderLayer: 'forward',
    AdaptiveCosineLoss: 'forward'
}


@contextmanager
def compiled_blocks(*models: nn.Module) -> Iterator[int]:
    """Let ``torch.compile`` join the small operations of each block.

    Blocks of one kind share the compiled code, so that a deep network
    compiles as fast as a shallow one. Hooks on blocks and direction taps work
    as before.

    Args:
        *models (nn.Module): Networks with blocks of this package's backbones
            or of MMPretrain's ``VisionTransformer``.

    Yields:
        int: How many methods are compiled.
    """
    blocks = {}  # a module may be part of two models
    for module in (m for model in models for m in model.modules()):
        for kind, method in METHODS.items():
            if isinstance(module, kind):
                blocks[module] = method
        if isinstance(module, DropPath):
            # MMPretrain gives numbers of NumPy, at which a compiler stops
            module.drop_prob = float(module.drop_prob)
    # a block may differ from the others in shape or stochastic depth
    with torch._dynamo.config.patch(recompile_limit=64):
        for module, method in blocks.items():
            compiled = torch.compile(getattr(module, method), dynamic=False)
            setattr(module, method, compiled)
        try:
            yield len(blocks)
        finally:
            for module, method in blocks.items():
                delattr(module, method)
