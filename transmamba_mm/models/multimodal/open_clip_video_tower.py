from typing import Optional, Tuple, Union

from mmengine.model import BaseModule
from torch import Tensor, nn

from transmamba_mm.registry import MODELS
from ..layers.token_layout import TokenLayout
from ..teachers.open_clip_loading import import_open_clip, load_tower


@MODELS.register_module()
class OpenCLIPVideoTower(BaseModule):
    """Visual tower of open_clip, which sees a clip frame by frame.

    As the backbone of :class:`~transmamba_mm.models.TextVideoRetrieval`, with
    a head of ``with_projection=False``, it makes a `CLIP4Clip
    <https://arxiv.org/abs/2104.08860>`_: a baseline, or a teacher in the
    making. A frame has one token, its feature.

    Args:
        arch (str | dict): Name of an architecture such as 'ViT-B-32', a
            folder with open_clip_config.json and weights, or arguments of
            open_clip's ``VisionTransformer``, such as ``image_size``,
            ``patch_size``, ``width``, ``layers``, ``heads``, ``output_dim``.
        num_frames (int): Frames of a clip; others work too. Defaults to 8.
        pretrained (str, optional): Weights file or one of open_clip's tags,
            for a name or a folder. Defaults to None.
        quick_gelu (bool, optional): See
            :class:`~transmamba_mm.models.OpenCLIPTeacher`. Defaults to None.

    Raises:
        ValueError: If there is no such architecture, or the weights do not
            fit it.
        FileNotFoundError: If there are no such weights.
    """

    def __init__(self,
                 arch: Union[str, dict],
                 num_frames: int = 8,
                 pretrained: Optional[str] = None,
                 quick_gelu: Optional[bool] = None) -> None:
        super().__init__()
        self.num_frames = num_frames
        self.model = _build(arch, pretrained, quick_gelu)

    @property
    def embed_dims(self) -> int:
        """int: Width of a frame's feature."""
        return self.model.output_dim

    def token_layout(self, image_size: Tuple[int, int, int]) -> TokenLayout:
        """Tell how the tokens stand for a clip.

        Args:
            image_size (Tuple[int, int, int]): Frames, height and width.

        Returns:
            TokenLayout: One token a frame.
        """
        return TokenLayout((1, 1), frames=image_size[0])

    def forward(self, x: Tensor) -> Tuple[Tensor]:
        """Compute features.

        Args:
            x (Tensor): Clips (B, C, T, H, W).

        Returns:
            Tuple[Tensor]: Shape (B, T, D).
        """
        frames = x.transpose(1, 2).flatten(0, 1)
        return (self.model(frames).unflatten(0, (len(x), -1)), )


def _build(arch: Union[str, dict], pretrained: Optional[str],
           quick_gelu: Optional[bool]) -> nn.Module:
    """Build a ``VisionTransformer``, with weights unless arch is a dict."""
    open_clip = import_open_clip()
    if not isinstance(arch, dict):
        try:
            model = load_tower(arch, pretrained, 'visual', quick_gelu)
        except (ValueError, FileNotFoundError) as error:
            raise type(error)(
                f"model.backbone of arch='{arch}', pretrained="
                f"'{pretrained}' cannot be had: {error}") from error
        if not isinstance(model, open_clip.model.VisionTransformer):
            raise ValueError(
                f"The visual tower of '{arch}' is not "
                "open_clip's own ViT; change model.backbone.arch.")
        return model
    arguments = dict(mlp_ratio=4., **arch) if 'mlp_ratio' not in arch else arch
    activation = open_clip.model.QuickGELU if quick_gelu else nn.GELU
    try:
        return open_clip.model.VisionTransformer(
            **arguments, act_layer=activation)
    except TypeError as error:
        raise ValueError(
            f'model.backbone.arch={arch} does not fit: {error}; use '
            'image_size, patch_size, width, layers, heads and output_dim.'
        ) from error
