import os.path as osp
from typing import Any, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from mmengine.model import BaseModule
from torch import Tensor

from transmamba_mm.compat import load_from_local
from transmamba_mm.registry import MODELS
from .cross_mamba_fusion import CrossMambaFusion


@MODELS.register_module()
class ClassNameFusion(BaseModule):
    """Let a classifier's tokens read the names of its classes.

    A neck between a backbone with ``out_type='raw'`` and a head of
    MMPretrain. It keeps text features of the class names as a buffer, which
    every image shares and which checkpoints contain, and fuses them into the
    last entry of the backbone's output by :class:`CrossMambaFusion`. The
    classes are read in the order they are given in.

    Args:
        visual_dims (int): Width C of the backbone's tokens.
        class_features (str | Tensor | ndarray | Sequence | dict): Text
            features of the K class names, one vector a class (K, C_t), or its
            tokens (K, L, C_t). A dict holds them as 'features', and as 'mask'
            which tokens are real (K, L), bool. A string is a file of such a
            tensor or dict: ``.npy``, or as ``torch.save`` writes it. Files
            that would run code are refused.
        pool (str): What becomes of the fused tokens:

            - 'mean': their mean without the class token, (B, C).
            - 'cls_token': the class token, (B, C).
            - 'none': all tokens, (B, L, C).

            Defaults to 'mean'.
        cls_index (int, optional): Position of the backbone's class token: 0
            in VideoMamba, half the number of patches in ViM. None if there
            is none. Defaults to None.
        init_cfg (dict, optional): Initialisation config. Defaults to None.
        **fusion: Further arguments of :class:`CrossMambaFusion`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the features have a wrong shape or are not finite, or
            if ``pool`` and ``cls_index`` do not fit.
    """

    POOLS = ('mean', 'cls_token', 'none')

    def __init__(self,
                 visual_dims: int,
                 class_features: Union[str, Tensor, np.ndarray, Sequence,
                                       dict],
                 pool: str = 'mean',
                 cls_index: Optional[int] = None,
                 init_cfg: Optional[dict] = None,
                 **fusion) -> None:
        super().__init__(init_cfg=init_cfg)
        if pool not in self.POOLS:
            raise ValueError(
                f'neck.pool={pool!r} is unknown; use one of {self.POOLS}.')
        if pool == 'cls_token' and cls_index is None:
            raise ValueError("neck.pool='cls_token' needs neck.cls_index, the "
                             "position of the backbone's class token.")
        self.pool, self.cls_index = pool, cls_index
        text, mask = _read_features(class_features)
        self.register_buffer('text', text)
        self.register_buffer('text_mask', mask)
        self.fusion = CrossMambaFusion(visual_dims, text.shape[-1], **fusion)
        if self.fusion.output != 'visual' or self.fusion.equal_length:
            raise ValueError("ClassNameFusion works with neck.output='visual' "
                             'and neck.equal_length=False only.')

    def forward(self, feats: Union[Tensor, Tuple[Tensor,
                                                 ...]]) -> Tuple[Tensor]:
        """Fuse the last feature, and pool it.

        Args:
            feats (Tuple[Tensor, ...]): The last one is used, (B, L, C).

        Returns:
            Tuple[Tensor]: One feature, shaped as ``pool`` says.

        Raises:
            ValueError: If there are no tokens.
        """
        tokens = feats[-1] if isinstance(feats, (tuple, list)) else feats
        if tokens.dim() != 3:
            raise ValueError(
                'ClassNameFusion got features of shape '
                f'{tuple(tokens.shape)}, but needs tokens (B, L, C): set '
                'backbone.out_type="raw".')
        cls_index = self.cls_index
        if cls_index is not None and not 0 <= cls_index < tokens.shape[1]:
            raise ValueError(f'neck.cls_index={cls_index}, but there are '
                             f'{tokens.shape[1]} tokens.')
        tokens = self.fusion(tokens, self.text, self.text_mask)
        return (self._pool(tokens), )

    def _pool(self, tokens: Tensor) -> Tensor:
        """(B, L, C) -> (B, C), or all tokens."""
        if self.pool == 'none':
            return tokens
        if self.pool == 'cls_token':
            return tokens[:, self.cls_index]
        if self.cls_index is None:
            return tokens.mean(1)
        parts = tokens[:, :self.cls_index], tokens[:, self.cls_index + 1:]
        return torch.cat(parts, dim=1).mean(1)


def _read_features(source: Any) -> Tuple[Tensor, Optional[Tensor]]:
    """Return text tokens (1, K * L, C_t) and which of them are real."""
    content = _load(source) if isinstance(source, str) else source
    mask = None
    if isinstance(content, dict):
        if 'features' not in content or set(content) - {'features', 'mask'}:
            raise ValueError('neck.class_features is a dict of '
                             f'{sorted(map(str, content))}; give "features" '
                             'and, if some tokens are padding, "mask".')
        content, mask = content['features'], content.get('mask')
    text = torch.as_tensor(content).detach().clone().float()
    if text.dim() not in (2, 3) or 0 in text.shape:
        raise ValueError('neck.class_features has the shape '
                         f'{tuple(text.shape)}; give (classes, width) or '
                         '(classes, tokens, width).')
    if not torch.isfinite(text).all():
        raise ValueError('neck.class_features holds NaN or infinity.')
    if mask is not None:
        mask = torch.as_tensor(mask).detach().clone()
        if mask.dtype != torch.bool or mask.shape != text.shape[:-1]:
            raise ValueError(
                f'The mask of neck.class_features is {mask.dtype} of shape '
                f'{tuple(mask.shape)}; give bool of shape '
                f'{tuple(text.shape[:-1])}.')
        mask = mask.reshape(1, -1)
    return text.reshape(1, -1, text.shape[-1]), mask


def _load(path: str) -> Any:
    """Read a file without running code from it."""
    path = osp.expanduser(path)
    if not osp.isfile(path):
        raise FileNotFoundError(
            f"There is no file '{path}' for neck.class_features.")
    if not path.endswith('.npy'):
        return load_from_local(path, 'cpu')
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"'{path}', given as neck.class_features, is no "
                         f'plain .npy array: {error}') from error
