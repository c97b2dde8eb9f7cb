from typing import Optional, Sequence, Tuple, Union

import torch
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from transmamba_mm.registry import MODELS


@MODELS.register_module()
class ProjectionAligner(BaseModule):
    """Project student features into the teacher's space, layer by layer.

    Source: TransMamba, feature calibration (zero padding to the teacher's
    width, then a simple MLP). Our choices: one projection a layer, shared by
    the scan directions; a projection starts as centred identity padding, so
    that calibration starts as the paper's padding.

    Args:
        in_dims (int | Sequence[int]): Student widths, one for all layers or
            one a layer.
        out_dims (int): Teacher width.
        num_layers (int): Number of layers.
        mode (str): Kind of projection:

            - 'linear': one matrix without bias.
            - 'mlp': the same matrix, SiLU, and a matrix that starts as zero
              beside a skip from the first.

            Defaults to 'linear'.
        init_cfg (dict, optional): Initialisation config. Defaults to None.
    """

    MODES = ('linear', 'mlp')

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
        self.projections = ModuleList(
            [nn.Linear(d, out_dims, bias=False) for d in in_dims])
        self.corrections = None
        if mode == 'mlp':
            self.corrections = ModuleList(
                [nn.Linear(out_dims, out_dims) for _ in in_dims])
        self._reset()

    def init_weights(self) -> None:
        """Initialise, and restore the identity start."""
        super().init_weights()
        self._reset()

    def _reset(self) -> None:
        for layer in self.projections:
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
        outs = [layer(x) for layer, x in zip(self.projections, feats)]
        if self.corrections is not None:
            outs = [
                x + layer(nn.functional.silu(x))
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
