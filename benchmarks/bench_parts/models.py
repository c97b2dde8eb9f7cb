"""The models compared, and how each implementation builds them."""
from dataclasses import dataclass
from typing import Optional, Sequence, Tuple

from mmpretrain.registry import MODELS as BUILDERS
from torch import nn

import transmamba_mm  # noqa: F401  (fills the registry)
from .bounds import mamba_work, vit_work
from .official import build_official


@dataclass(frozen=True)
class Model:
    """A model of the comparison.

    Args:
        family (str): 'deit', 'vim', 'videomamba', 'plainmamba' or 'vmamba'.
        arch (str): Name of its size here; for DeiT its name in timm.
        official (str): Name of its size in the official code.
        stages (Sequence[Tuple[int, int, int]]): Width, layers and pixels a
            token of each stage.
        drop_path (float): Stochastic depth in training, as published.
        deit (str): The DeiT that it is compared with.
        states (int): State size N. Defaults to 16.
        is_small (bool): Whether it is more than a T size. Defaults to False.
    """
    family: str
    arch: str
    official: str
    stages: Sequence[Tuple[int, int, int]]
    drop_path: float
    deit: str
    states: int = 16
    is_small: bool = False

    def work(self, side: int) -> Tuple[float, float]:
        """Bytes and exponentials of a forward pass for one image."""
        if self.family == 'deit':
            return vit_work(*self.stages[0], side)
        return mamba_work(self.family, self.stages, self.states, side)


_V_STAGES = ((96, 2, 4), (192, 2, 8), (384, 8, 16), (768, 2, 32))

MODELS = {
    'deit-tiny':
    Model('deit', 'deit_tiny_patch16_224', '', ((192, 12, 16), ), 0.1,
          'deit-tiny'),
    'deit-small':
    Model(
        'deit',
        'deit_small_patch16_224',
        '', ((384, 12, 16), ),
        0.1,
        'deit-small',
        is_small=True),
    'vim-tiny':
    Model('vim', 'tiny', 'vim_tiny', ((192, 24, 16), ), 0.1, 'deit-tiny'),
    'plainmamba-l1':
    Model('plainmamba', 'l1', 'L1', ((192, 24, 16), ), 0.2, 'deit-tiny'),
    'vmamba-s1l8-t':
    Model('vmamba', 's1l8-t', 'vmamba_tiny_s1l8', _V_STAGES, 0.2, 'deit-small',
          1),
    'videomamba-tiny':
    Model('videomamba', 'tiny', 'videomamba_tiny', ((192, 24, 16), ), 0.1,
          'deit-tiny'),
    'vim-small':
    Model(
        'vim',
        'small',
        'vim_small', ((384, 24, 16), ),
        0.1,
        'deit-small',
        is_small=True),
}
_TYPES = dict(
    vim='VisionMamba',
    videomamba='VideoMamba',
    plainmamba='PlainMamba',
    vmamba='VMamba')


def build(name: str,
          implementation: str,
          side: int,
          scan: Optional[str] = None,
          official: Optional[str] = None) -> nn.Module:
    """Build a model with random weights.

    Args:
        name (str): A key of ``MODELS``.
        implementation (str): 'deit', 'ours', 'mamba_ssm' (ours on the scan of
            mamba-ssm) or 'official'.
        side (int): Side of the images in pixels.
        scan (str, optional): Back end of our scan; None takes the best for
            the device. Defaults to None.
        official (str, optional): Folder of the official checkouts. Defaults
            to None.

    Returns:
        nn.Module: Images in, 1000 scores out.
    """
    model = MODELS[name]
    if implementation == 'deit':
        import timm
        return timm.create_model(
            model.arch, img_size=side, drop_path_rate=model.drop_path)
    if implementation == 'official':
        return build_official(model.family, model.official, official, side,
                              model.drop_path)
    backbone = dict(
        type=f'transmamba_mm.{_TYPES[model.family]}',
        arch=model.arch,
        img_size=side,
        drop_path_rate=model.drop_path,
        scan_backend='mamba_ssm' if implementation == 'mamba_ssm' else scan)
    return BUILDERS.build(
        dict(
            type='mmpretrain.ImageClassifier',
            backbone=backbone,
            head=dict(
                type='LinearClsHead',
                num_classes=1000,
                in_channels=model.stages[-1][0])))
