import math
from dataclasses import replace
from typing import Optional, Tuple, Union

import torch
from mmengine.logging import MMLogger
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from transmamba_mm.ops import BIDIRECTIONAL_NAMES
from transmamba_mm.registry import MODELS
from ..layers import ClipMixer, MambaBlock, TokenLayout, resize_frames
from ..layers.mamba_mixer import is_pretrained
from .base_mamba import BaseMamba, drop_path_rates, num_patches, pad_to_patches
from .vision_mamba import PatchEmbed, VisionMamba


@MODELS.register_module()
class VideoMamba(BaseMamba):
    """VideoMamba: forward and backward scans, of images or of clips.

    Paper: `VideoMamba: State Space Model for Efficient Video Understanding
    <https://arxiv.org/abs/2403.06977>`_. Parameter names, shapes and meaning
    are those of the official code: the class token stands first, the
    directions are summed, and the residual stream is kept in float32. An
    image model has the tensors of ViM, but they mean something else.

    With ``num_frames`` it is a model of clips (B, C, T, H, W): a token stands
    for ``tubelet_size`` frames of a patch, and the clip has one class token.
    Weights of an image model load into it; their patch embedding becomes the
    middle frame of a tubelet. If ``tubelet_size`` is 1, it takes images too,
    which get no temporal embedding.

    Args:
        arch (str | dict): A name from the list, or a dict with the keys
            ``embed_dims``, ``num_layers`` and optionally ``d_state`` (16),
            ``img_size``, ``patch_size``.

            - 'tiny', 'small', 'base': 24 layers of width 192, 384 and 768.
            - 'middle': 32 layers of width 576.
            - 'tiny-32': 12 layers of width 192, d_state 8, for images of
              32 pixels in 64 tokens (our choice).
            - 'nano-16': 4 layers of width 64, d_state 4, for images of 16
              pixels in 16 tokens (our choice).

            Defaults to 'tiny'.
        img_size (int | Tuple[int, int], optional): Image size that the
            position embedding is made for; other sizes work too. None takes
            the arch's, or 224. Defaults to None.
        patch_size (int, optional): Pixels a patch. None takes the arch's, or
            16. Defaults to None.
        num_frames (int, optional): Frames that the temporal embedding is made
            for; other numbers work too. None makes a model of images.
            Defaults to None.
        tubelet_size (int): Frames a token. Defaults to 1.
        scan_type (str): Order of a clip's tokens:

            - 'spatial-first': one frame after the other, as published.
            - 'temporal-first': one position after the other, through all
              frames.
            - 'mixed': forward by the first, backward by the second (our
              reading of the paper's spatiotemporal scan of equal cost).

            Defaults to 'spatial-first'.
        in_channels (int): Image channels. Defaults to 3.
        out_indices (int | Sequence[int]): Layers whose outputs are returned;
            negative ones count from the end. Defaults to -1.
        out_type (str): Form of each output:

            - 'cls_token': class token (B, C).
            - 'raw': tokens (B, L, C), class token first.
            - 'featmap': feature map (B, C, H, W), of a clip (B, C, T, H, W).
            - 'avg_featmap': mean over the patch tokens (B, C).

            Defaults to 'cls_token'.
        drop_rate (float): Dropout after the position embedding. Defaults to
            0.
        drop_path_rate (float): Stochastic depth of the last layer. Defaults
            to 0.
        frozen_stages (int): -1 freezes nothing, k the stem and k layers.
            Defaults to -1.
        with_cp (bool): Whether to save memory by activation checkpointing.
            Defaults to False.
        scan_backend (str, optional): 'mamba_ssm', 'chunked' or 'reference';
            None takes the best for the device. Defaults to None.
        init_cfg (dict | list, optional): Initialisation config. Defaults to
            truncated normal linear layers, as published.
    """

    final_norm_name = 'norm_f'
    direction_names = BIDIRECTIONAL_NAMES
    num_extra_tokens = 1
    stem_names = (*BaseMamba.stem_names, 'temporal_pos_embedding')
    arch_zoo = dict(
        VisionMamba.arch_zoo, middle=dict(embed_dims=576, num_layers=32))

    def __init__(self,
                 arch: Union[str, dict] = 'tiny',
                 num_frames: Optional[int] = None,
                 tubelet_size: int = 1,
                 scan_type: str = 'spatial-first',
                 in_channels: int = 3,
                 out_type: str = 'cls_token',
                 drop_path_rate: float = 0.,
                 init_cfg: Union[dict, list, None] = None,
                 **kwargs) -> None:
        if init_cfg is None:
            init_cfg = dict(type='TruncNormal', layer='Linear', std=0.02)
        super().__init__(arch, out_type=out_type, init_cfg=init_cfg, **kwargs)
        self.num_frames = num_frames
        self.tubelet_size = tubelet_size
        dims = self.embed_dims
        length = self.token_layout(self.img_size).num_tokens
        self.pos_embed = nn.Parameter(torch.zeros(1, length, dims))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dims))
        self.temporal_pos_embedding = None
        if num_frames is None:
            self.patch_embed = PatchEmbed(in_channels, dims, self.patch_size,
                                          self.patch_size)
        else:
            self.patch_embed = TubeletEmbed(in_channels, dims, self.patch_size,
                                            tubelet_size)
            self.temporal_pos_embedding = nn.Parameter(
                torch.zeros(1, self._count_steps(num_frames), dims))
        d_state = self.arch_settings.get('d_state', 16)
        self.layers = ModuleList([
            MambaBlock(
                nn.RMSNorm(dims, eps=1e-5),
                ClipMixer(dims, scan_type, d_state=d_state), rate)
            for rate in drop_path_rates(drop_path_rate, self.num_layers)
        ])
        self.norm_f = nn.RMSNorm(dims, eps=1e-5)
        self._register_load_state_dict_pre_hook(self._prepare_clip_weights)
        self.finish_init()

    def token_layout(self,
                     image_size: Tuple[int, ...],
                     layer: int = -1) -> TokenLayout:
        """Tell how the tokens after a layer stand for an image or a clip.

        Args:
            image_size (Tuple[int, ...]): Height and width in pixels; before
                them the number of frames, for a clip.
            layer (int): Layer index; the same for all. Defaults to -1.

        Returns:
            TokenLayout: Grid, frames and the class token in front.

        Raises:
            ValueError: If the model does not take such an input.
        """
        *frames, height, width = image_size
        grid = tuple(
            num_patches(s, self.patch_size, self.patch_size)
            for s in (height, width))
        if not frames:
            return self._layout(grid, 1)
        return replace(
            self._layout(grid, 1), frames=self._count_steps(*frames))

    def _count_steps(self, num_frames: int) -> int:
        """Count the tubelets of a clip."""
        if self.num_frames is None:
            raise ValueError(
                f'A clip of {num_frames} frames (B, C, T, H, W) came to a '
                'VideoMamba for images (B, C, H, W): set backbone.num_frames '
                'to the number of frames it is made for.')
        if num_frames < 1 or num_frames % self.tubelet_size:
            raise ValueError(
                f'{num_frames} frames do not divide into tubelets of '
                f'{self.tubelet_size}: use a multiple of '
                'backbone.tubelet_size, or change it.')
        return num_frames // self.tubelet_size

    def embed(self, x: Tensor, layout: TokenLayout) -> Tensor:
        """See :meth:`BaseMamba.embed`."""
        if layout.frames is None and self.num_frames is not None:
            x = self._image_as_clip(x)
        frame = replace(layout, frames=None)
        patch_pos, cls_pos = frame.split(self.resized_pos_embed(frame))
        patches = self.patch_embed(x).unflatten(1, (layout.frames or 1, -1))
        patches = patches + patch_pos.unsqueeze(1)  # (B, T, H W, C)
        if layout.frames is not None:
            steps = resize_frames(self.temporal_pos_embedding, layout.frames)
            patches = patches + steps.unsqueeze(2)
        cls_token = (self.cls_token + cls_pos).expand(x.shape[0], -1, -1)
        patches = patches.flatten(1, 2)
        return layout.join(patches, cls_token.to(patches.dtype))

    def _image_as_clip(self, x: Tensor) -> Tensor:
        if self.tubelet_size > 1:
            raise ValueError(
                'Images (B, C, H, W) came to a VideoMamba whose tokens stand '
                f'for {self.tubelet_size} frames: give clips (B, C, T, H, W), '
                'or set backbone.tubelet_size=1.')
        return x.unsqueeze(2)

    def init_weights(self) -> None:
        """Initialise as published: class token and temporal embedding zero,
        output projections scaled by the root of the depth. The step size
        keeps its usual start, which the official code sets to zero."""
        super().init_weights()
        if is_pretrained(self.init_cfg):
            return
        nn.init.zeros_(self.cls_token)
        for layer in self.layers:
            weight = layer.mixer.out_proj.weight
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
            with torch.no_grad():
                weight /= math.sqrt(self.num_layers)

    def _prepare_clip_weights(self, state_dict: dict, prefix: str, *args,
                              **kwargs) -> None:
        """Fit loaded weights to the frames of this model."""
        logger = MMLogger.get_current_instance()
        key = prefix + 'temporal_pos_embedding'
        steps = self.temporal_pos_embedding
        if steps is not None and key in state_dict and \
                state_dict[key].shape[1] != steps.shape[1]:
            loaded = state_dict[key]
            state_dict[key] = resize_frames(loaded, steps.shape[1])
            logger.info(f'Resized {key} from {loaded.shape[1]} to '
                        f'{steps.shape[1]} steps.')
        key = prefix + 'patch_embed.proj.weight'
        weight = state_dict.get(key)
        if steps is not None and weight is not None and weight.dim() == 4:
            state_dict[key] = _inflate(weight, self.tubelet_size)
            logger.info(f'Put {key} of an image model into the middle of '
                        f'{self.tubelet_size} frames.')


class TubeletEmbed(BaseModule):
    """Cut a clip into tubelets, patches of some frames, and embed them.

    Args:
        in_channels (int): Image channels.
        embed_dims (int): Width C of a token.
        patch_size (int): Pixels a patch.
        tubelet_size (int): Frames a token.
    """

    def __init__(self, in_channels: int, embed_dims: int, patch_size: int,
                 tubelet_size: int) -> None:
        super().__init__()
        kernel = (tubelet_size, patch_size, patch_size)
        self.proj = nn.Conv3d(in_channels, embed_dims, kernel, stride=kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Embed tubelets.

        Args:
            x (Tensor): Clips (B, C_in, T, H, W), T a multiple of the
                tubelet's frames.

        Returns:
            Tensor: Tokens (B, L, C), frame after frame.
        """
        patch = self.proj.kernel_size[-1]
        x = pad_to_patches(x, patch, patch)
        return self.proj(x).flatten(2).transpose(1, 2)


def _inflate(weight: Tensor, num_frames: int) -> Tensor:
    """(C, C_in, h, w) -> (C, C_in, T, h, w), zero but in the middle."""
    out = weight.new_zeros(*weight.shape[:2], num_frames, *weight.shape[2:])
    out[:, :, num_frames // 2] = weight
    return out
