from typing import Optional

from mmengine.model import BaseModule
from torch import Tensor, nn

from transmamba_mm.registry import MODELS
from ..teachers import FrozenTeacher, preprocessor_normalisation


@MODELS.register_module()
class VisionTower(BaseModule):
    """Patch tokens of any backbone, for a language model.

    Source: LLaVA-1.5 takes the patch tokens of CLIP's last layer but one.

    Args:
        backbone (dict): Config of a backbone of this package or of
            MMPretrain, whose last output is taken with the final norm, or of
            a frozen tower: :class:`~transmamba_mm.models.HFTeacher` or
            :class:`~transmamba_mm.models.OpenCLIPTeacher` for a CLIP,
            :class:`~transmamba_mm.models.MMPretrainTeacher` for a trained
            classifier.
        select_layer (int): Which layer of a frozen tower is taken, without
            the final norm; negative counts from the last. Defaults to -2.
        embed_dims (int, optional): Width of the tokens, for a backbone that
            does not tell it. Defaults to None.
        init_cfg (dict, optional): Initialisation config. Defaults to None.

    Raises:
        ValueError: If there is no such layer, or the width is not known.

    Examples:
        >>> tower = dict(
        ...     type='transmamba_mm.VisionTower',
        ...     backbone=dict(
        ...         type='transmamba_mm.HFTeacher',
        ...         pretrained='checkpoints/clip-vit-large-patch14-336'))
    """

    def __init__(self,
                 backbone: dict,
                 select_layer: int = -2,
                 embed_dims: Optional[int] = None,
                 init_cfg: Optional[dict] = None) -> None:
        super().__init__(init_cfg=init_cfg)
        self.backbone = MODELS.build(backbone)
        self.layer_name: Optional[str] = None
        if isinstance(self.backbone, FrozenTeacher):
            self.layer_name = self._layer_name(select_layer)
        elif hasattr(self.backbone, 'out_type'):
            self.backbone.out_type = 'raw'
        self.embed_dims = embed_dims or _width(self.backbone)

    def _layer_name(self, select_layer: int) -> str:
        """Return the path of the layer to take."""
        depth = self.backbone.depth
        if self.backbone.takes_text or not -depth <= select_layer < depth:
            raise ValueError(
                f'vision_tower.select_layer={select_layer}, but the tower '
                f'has {depth} layers' +
                (', and reads texts' if self.backbone.takes_text else ''))
        return self.backbone.layer_name.format(select_layer % depth)

    def match_inputs(self, preprocessor: nn.Module) -> None:
        """Tell a frozen tower how the images are normalised.

        Args:
            preprocessor (nn.Module): The model's data preprocessor.
        """
        if self.layer_name is not None:
            self.backbone.check_student(preprocessor)
            self.backbone.match_inputs(
                *preprocessor_normalisation(preprocessor))

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute patch tokens.

        Args:
            inputs (Tensor): Images (B, C, H, W) or clips (B, C, T, H, W),
                normalised.

        Returns:
            Tensor: Shape (B, L, C).
        """
        size = tuple(inputs.shape[2:])
        if self.layer_name is not None:
            tokens = self.backbone.record(inputs,
                                          [self.layer_name])[self.layer_name]
            return self.backbone.record_layout(size).split(tokens)[0]
        tokens = self.backbone(inputs)[-1]
        if hasattr(self.backbone, 'token_layout'):
            return self.backbone.token_layout(size).split(tokens)[0]
        if tokens.dim() > 3:
            return tokens.flatten(2).transpose(1, 2)
        return tokens[:, getattr(self.backbone, 'num_extra_tokens', 0):]


def _width(backbone: nn.Module) -> int:
    """Return the width of a backbone's tokens."""
    dims = getattr(backbone, 'block_dims', None)
    width = dims[-1] if dims else getattr(backbone, 'embed_dims', None)
    if not isinstance(width, int):
        raise ValueError(
            f'{type(backbone).__name__} does not tell the width of its '
            'tokens; set model.vision_tower.embed_dims.')
    return width
