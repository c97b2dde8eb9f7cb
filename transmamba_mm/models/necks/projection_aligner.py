from typing import Optional, Sequence, Tuple, Union

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from transmamba_mm.registry import MODELS


@MODELS.register_module()
class ProjectionAligner(BaseModule):
    """Bring student features to the teacher's width, layer by layer.

    Source: TransMamba, feature calibration (zero padding to the teacher's
    width, then a simple MLP). Our choices: one projection a layer, shared by
    the scan directions; a projection starts as centred identity padding, so
    that calibration starts as the paper's padding. A rectangular matrix does
    the same as padding followed by a square one, and is what 'linear' holds.

    Args:
        in_dims (int | Sequence[int]): Student widths, one for all layers or
            one a layer.
        out_dims (int): Teacher width.
        num_layers (int): Number of layers.
        mode (str): Kind of alignment:

            - 'linear': one matrix without bias.
            - 'mlp': the same matrix, SiLU, and a matrix that starts as zero
              beside a skip from the first.
            - 'zero_pad': the paper's padding alone, nothing learned. Of a
              student that is wider than the teacher the middle channels are
              taught and the others left free (our choice).
            - 'interpolate': the channels are resized as a curve, linearly to
              more and by local means to fewer; nothing learned (our choice).

            Defaults to 'linear'.
        init_cfg (dict, optional): Initialisation config. Defaults to None.

    Raises:
        ValueError: On an unknown mode or a wrong number of widths.
    """

    MODES = ('linear', 'mlp', 'zero_pad', 'interpolate')

    def __init__(self,
                 in_dims: Union[int, Sequence[int]],
                 out_dims: int,
                 num_layers: int,
                 mode: str = 'linear',
                 init_cfg: Optional[dict] = None) -> None:
        super().__init__(init_cfg=init_cfg)
        if mode not in self.MODES:
            raise ValueError(f"distiller.aligner.mode='{mode}' is unknown; "
                             f'use one of {self.MODES}.')
        if isinstance(in_dims, int):
            in_dims = [in_dims] * num_layers
        if len(in_dims) != num_layers:
            raise ValueError(
                f'distiller.student_dims has {len(in_dims)} entries for '
                f'{num_layers} layers; give one width a layer, or one for '
                'all.')
        self.mode = mode
        self.in_dims = tuple(in_dims)
        self.out_dims = out_dims
        self.projections = self.corrections = None
        if mode in ('linear', 'mlp'):
            self.projections = ModuleList(
                [nn.Linear(d, out_dims, bias=False) for d in in_dims])
        elif mode == 'zero_pad' and max(in_dims) > out_dims:
            print_log(
                f"distiller.aligner.mode='zero_pad': the student's width "
                f'{max(in_dims)} is above the teacher\'s {out_dims}; only its '
                f'{out_dims} middle channels are taught.',
                logger='current')
        if mode == 'mlp':
            self.corrections = ModuleList(
                [nn.Linear(out_dims, out_dims) for _ in in_dims])
        self._reset()

    def init_weights(self) -> None:
        """Initialise, and restore the identity start."""
        super().init_weights()
        self._reset()

    def _reset(self) -> None:
        for layer in self.projections or ():
            with torch.no_grad():
                layer.weight.copy_(identity_padding(*layer.weight.shape))
        for layer in self.corrections or ():
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, feats: Tuple[Tensor, ...]) -> Tuple[Tensor, ...]:
        """Align features.

        Args:
            feats (Tuple[Tensor, ...]): One feature a layer, (..., C_s).

        Returns:
            Tuple[Tensor, ...]: One feature a layer, (..., C_t).
        """
        if self.mode == 'zero_pad':
            return tuple(pad_channels(x, self.out_dims) for x in feats)
        if self.mode == 'interpolate':
            return tuple(resize_channels(x, self.out_dims) for x in feats)
        outs = [layer(x) for layer, x in zip(self.projections, feats)]
        if self.corrections is not None:
            outs = [
                x + layer(F.silu(x))
                for layer, x in zip(self.corrections, outs)
            ]
        return tuple(outs)


def identity_padding(out_dims: int, in_dims: int) -> Tensor:
    """Matrix that pads a vector with zeros on both sides, or crops it.

    Args:
        out_dims (int): Rows.
        in_dims (int): Columns.

    Returns:
        Tensor: Shape (out_dims, in_dims), ones on a centred diagonal.
    """
    matrix = torch.zeros(out_dims, in_dims)
    size = min(out_dims, in_dims)
    row, column = (out_dims - size) // 2, (in_dims - size) // 2
    matrix[row:row + size, column:column + size] = torch.eye(size)
    return matrix


def pad_channels(x: Tensor, out_dims: int) -> Tensor:
    """Pad channels with zeros on both sides, or crop them to the middle.

    Args:
        x (Tensor): Shape (..., C).
        out_dims (int): Channels wanted.

    Returns:
        Tensor: Shape (..., out_dims), as by :func:`identity_padding`.
    """
    missing = out_dims - x.shape[-1]
    if missing < 0:
        return x.narrow(-1, -missing // 2, out_dims)
    return F.pad(x, (missing // 2, missing - missing // 2))


def resize_channels(x: Tensor, out_dims: int) -> Tensor:
    """Resize the channels as a curve.

    Args:
        x (Tensor): Shape (..., C).
        out_dims (int): Channels wanted.

    Returns:
        Tensor: Shape (..., out_dims).
    """
    if x.shape[-1] == out_dims:
        return x
    rows = x.reshape(-1, 1, x.shape[-1])
    if x.shape[-1] > out_dims:
        rows = F.adaptive_avg_pool1d(rows, out_dims)
    else:
        rows = F.interpolate(
            rows, size=out_dims, mode='linear', align_corners=False)
    return rows.reshape(*x.shape[:-1], out_dims)
