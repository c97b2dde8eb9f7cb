from abc import abstractmethod
from typing import List, Optional, Sequence, Tuple, Union

import torch
from mmengine.logging import MMLogger
from mmengine.model.weight_init import trunc_normal_
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from transmamba_mm.ops import SCAN_BACKENDS
from ..layers.mamba_mixer import MambaMixer, is_pretrained
from ..layers.token_layout import TokenLayout, resize_tokens


class BaseMamba(BaseBackbone):
    """What every Mamba backbone of this package can do.

    The forward pass is that of a columnar one.

    A sub-class fills ``arch_zoo``, builds ``patch_embed``, ``layers`` and the
    final norm, and calls :meth:`finish_init`. See
    :class:`~transmamba_mm.models.PlainMamba` for the arguments.
    """

    #: Values that ``out_type`` may take.
    OUT_TYPES = ('raw', 'featmap', 'avg_featmap', 'cls_token')
    arch_zoo = {}
    #: Keys that an ``arch`` dict must hold.
    essential_keys = {'embed_dims', 'num_layers'}
    #: Attribute name of the last norm, as in the official state dict.
    final_norm_name = 'norm'
    #: Names of the scan directions, in the order of the tap's first axis.
    direction_names: Tuple[str, ...] = ()
    #: Parameters that belong to the stem, as starts of their names.
    stem_names = ('patch_embed', 'pos_embed', 'cls_token')
    num_extra_tokens = 0

    def __init__(self,
                 arch: Union[str, dict],
                 img_size: Union[int, Tuple[int, int], None] = None,
                 patch_size: Optional[int] = None,
                 out_indices: Union[int, Sequence[int]] = -1,
                 out_type: str = 'avg_featmap',
                 drop_rate: float = 0.,
                 frozen_stages: int = -1,
                 norm_eval: bool = False,
                 with_cp: bool = False,
                 scan_backend: Optional[str] = None,
                 init_cfg: Optional[dict] = None) -> None:
        super().__init__(init_cfg=init_cfg)
        self.arch_settings = self._resolve_arch(arch)
        self.embed_dims = self.arch_settings['embed_dims']
        self.num_layers = self.arch_settings['num_layers']
        size = img_size or self.arch_settings.get('img_size', 224)
        self.img_size = (size, size) if isinstance(size, int) else tuple(size)
        self.patch_size = patch_size or self.arch_settings.get(
            'patch_size', 16)
        self.out_indices = self._resolve_indices(out_indices)
        if out_type not in self.OUT_TYPES:
            raise ValueError(f"out_type='{out_type}' is not supported by "
                             f'{type(self).__name__}; backbone.out_type must '
                             f'be one of {self.OUT_TYPES}.')
        self.out_type = out_type
        if not -1 <= frozen_stages <= self.num_layers:
            raise ValueError(
                f'backbone.frozen_stages={frozen_stages}, but it must lie in '
                f'[-1, {self.num_layers}] ({self.num_layers} layers).')
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.with_cp = with_cp
        if scan_backend not in (None, *SCAN_BACKENDS):
            raise ValueError(
                f"backbone.scan_backend='{scan_backend}' is "
                f'unknown; use one of {[*SCAN_BACKENDS]}, or None '
                'for the best.')
        self.scan_backend = scan_backend
        self.drop_after_pos = nn.Dropout(p=drop_rate)
        self._register_load_state_dict_pre_hook(self._prepare_pos_embed)

    def _resolve_arch(self, arch: Union[str, dict]) -> dict:
        """Look an arch up, or check a dict."""
        known = f'one of {sorted(self.arch_zoo)}'
        if isinstance(arch, str):
            if arch.lower() not in self.arch_zoo:
                raise ValueError(
                    f"backbone.arch='{arch}' is unknown to "
                    f'{type(self).__name__}; use {known}, or a dict with the '
                    f'keys {sorted(self.essential_keys)}.')
            return self.arch_zoo[arch.lower()]
        if not isinstance(arch, dict):
            raise TypeError(f'backbone.arch={arch!r} is neither a name nor a '
                            f'dict; use {known}.')
        allowed = self.essential_keys.union(*self.arch_zoo.values())
        strange = set(arch) - allowed
        if strange:
            raise ValueError(
                f'The dict given as backbone.arch has unknown keys '
                f'{sorted(strange)}; {type(self).__name__} takes '
                f'{sorted(allowed)}.')
        missing = self.essential_keys - set(arch)
        if missing:
            raise ValueError(
                f'The dict given as backbone.arch lacks {sorted(missing)}; '
                f'give {sorted(self.essential_keys)}, or {known}.')
        return dict(arch)

    def _resolve_indices(
            self, out_indices: Union[int, Sequence[int]]) -> Tuple[int, ...]:
        """Turn negative indices into positive ones, without side effects."""
        if isinstance(out_indices, int):
            out_indices = (out_indices, )
        n = self.num_layers
        bad = [i for i in out_indices if not -n <= i < n]
        if bad:
            raise ValueError(
                f'backbone.out_indices holds {bad}, but {type(self).__name__} '
                f'has {n} layers: use values from {-n} to {n - 1}.')
        return tuple(i % n for i in out_indices)

    def finish_init(self) -> None:
        """Set what needs all modules: scan back end and frozen stages."""
        for module in self.modules():
            if isinstance(module, MambaMixer):
                module.scan_backend = self.scan_backend
        self._freeze_stages()

    @property
    def block_names(self) -> List[str]:
        """List[str]: Path of each block inside the backbone, in order."""
        return [f'layers.{i}' for i in range(self.num_layers)]

    @property
    def block_dims(self) -> List[int]:
        """List[int]: Width of each block."""
        return [self.embed_dims] * self.num_layers

    @property
    def patch_resolution(self) -> Tuple[int, int]:
        """Tuple[int, int]: Token grid at ``img_size``."""
        return self.token_layout(self.img_size).grid

    @abstractmethod
    def token_layout(self,
                     image_size: Tuple[int, int],
                     layer: int = -1) -> TokenLayout:
        """Tell how the tokens after a layer stand for an image.

        Args:
            image_size (Tuple[int, int]): Height and width in pixels.
            layer (int): Index of a block in ``block_names``; of no account in
                a columnar model. Defaults to -1.

        Returns:
            TokenLayout: Grid, extra tokens and place of the class token.
        """

    def init_weights(self) -> None:
        """Initialise; position embedding and class token are truncated
        normal with a standard deviation of 0.02."""
        super().init_weights()
        if is_pretrained(self.init_cfg):
            return
        for name in ('pos_embed', 'cls_token'):
            if getattr(self, name, None) is not None:
                trunc_normal_(getattr(self, name), std=0.02)

    def forward(self, x: Tensor) -> Tuple[Tensor, ...]:
        """Compute features.

        Args:
            x (Tensor): Images (B, C, H, W), any size that holds a patch.

        Returns:
            Tuple[Tensor, ...]: One entry per ``out_indices``, shaped as
            ``out_type`` says.
        """
        layout = self.token_layout(x.shape[2:])
        x = self.drop_after_pos(self.embed(x, layout))
        outs = []
        for i, layer in enumerate(self.layers):
            x = self._run_layer(layer, x, layout.shape)
            if i in self.out_indices:
                outs.append(self._format_output(x, layout, i))
        return tuple(outs)

    @abstractmethod
    def embed(self, x: Tensor, layout: TokenLayout) -> Tensor:
        """Turn images into tokens with positions.

        Args:
            x (Tensor): Images (B, C, H, W).
            layout (TokenLayout): Layout of these images' tokens.

        Returns:
            Tensor: Tokens (B, L, C).
        """

    def _run_layer(self, layer: nn.Module, x: Tensor,
                   grid: Tuple[int, ...]) -> Tensor:
        record = layer.direction_tap.is_recorded
        if self.with_cp and x.requires_grad:
            return checkpoint(layer, x, grid, record, use_reentrant=False)
        return layer(x, grid, record)

    def _norm_output(self, x: Tensor, index: int) -> Tensor:
        """Apply the final norm to the last layer's tokens only."""
        if index != self.num_layers - 1:
            return x
        norm = getattr(self, self.final_norm_name)
        return norm(x.to(norm.weight.dtype))

    def _format_output(self, x: Tensor, layout: TokenLayout,
                       index: int) -> Tensor:
        x = self._norm_output(x, index)
        if self.out_type == 'raw':
            return x
        patches, cls_token = layout.split(x)
        if self.out_type == 'cls_token':
            return cls_token[:, 0]
        if self.out_type == 'avg_featmap':
            return patches.mean(dim=1)
        return patches.transpose(1, 2).unflatten(2, layout.shape).contiguous()

    def resized_pos_embed(self, layout: TokenLayout) -> Tensor:
        """Return the position embedding for a token grid.

        Args:
            layout (TokenLayout): The layout wanted.

        Returns:
            Tensor: Shape (1, L, C) with L tokens in the layout's order.
        """
        own = self.token_layout(self.img_size)
        if own.grid == layout.grid:
            return self.pos_embed
        return _resize_pos_embed(self.pos_embed, own, layout)

    def _prepare_pos_embed(self, state_dict: dict, prefix: str, *args,
                           **kwargs) -> None:
        """Fit a loaded position embedding to this model's grid."""
        key = prefix + 'pos_embed'
        if key not in state_dict or getattr(self, 'pos_embed', None) is None:
            return
        loaded = state_dict[key]
        if loaded.shape == self.pos_embed.shape:
            return
        source = self._guess_layout(loaded.shape[1])
        target = self.token_layout(self.img_size)
        state_dict[key] = _resize_pos_embed(loaded, source, target)
        MMLogger.get_current_instance().info(
            f'Resized {key} from {tuple(loaded.shape)} to '
            f'{tuple(state_dict[key].shape)}.')

    def _guess_layout(self, length: int) -> TokenLayout:
        """Read a square grid off the length of a position embedding."""
        for extra in dict.fromkeys((self.num_extra_tokens, 0, 1, 2)):
            side = int((length - extra)**0.5)
            if side * side + extra == length:
                return self._layout((side, side), extra)
        raise ValueError(
            f'The checkpoint has a position embedding of {length} positions, '
            'which is no square grid with 0 to 2 extra tokens, so it cannot '
            'be resized; set backbone.img_size to the size it was trained '
            'at.')

    def _layout(self, grid: Tuple[int, int],
                num_extra_tokens: int) -> TokenLayout:
        """Build a layout; the class token comes first, as in a ViT."""
        index = 0 if num_extra_tokens else None
        return TokenLayout(grid, num_extra_tokens, index)

    def _freeze_stages(self) -> None:
        """Freeze the stem and the first ``frozen_stages`` layers."""
        if self.frozen_stages < 0:
            return
        modules = [self.patch_embed, self.drop_after_pos]
        for module in modules + list(self.layers)[:self.frozen_stages]:
            module.eval()
        for name, param in self.named_parameters():
            if self._stage_of(name) <= self.frozen_stages:
                param.requires_grad = False

    def _stage_of(self, name: str) -> int:
        """Return k if ``frozen_stages=k`` is the first to freeze it."""
        return self.get_layer_depth(name)[0]

    def train(self, mode: bool = True) -> 'BaseMamba':
        """Set the mode, and keep frozen parts and norms frozen.

        Args:
            mode (bool): Whether to train. Defaults to True.

        Returns:
            BaseMamba: self.
        """
        super().train(mode)
        if mode:
            self._freeze_stages()
            if self.norm_eval:
                for module in self._batch_norms():
                    module.eval()
        return self

    def _batch_norms(self) -> List[nn.Module]:
        return [m for m in self.modules() if isinstance(m, _BatchNorm)]

    def get_layer_depth(self,
                        param_name: str,
                        prefix: str = '') -> Tuple[int, int]:
        """Return the depth of a parameter, for layer-wise learning rates.

        Args:
            param_name (str): Full name of the parameter.
            prefix (str): Prefix of the backbone's names. Defaults to ''.

        Returns:
            Tuple[int, int]: Depth and number of depths: 0 for the stem, i + 1
            for layer i, the last for all the rest.
        """
        num_depths = self.num_layers + 2
        name = param_name[len(prefix):] if param_name.startswith(
            prefix) else None
        if name is None:
            return num_depths - 1, num_depths
        if name.startswith(self.stem_names):
            return 0, num_depths
        if name.startswith('layers.'):
            return int(name.split('.')[1]) + 1, num_depths
        return num_depths - 1, num_depths


def drop_path_rates(rate: float, num_layers: int) -> List[float]:
    """Spread stochastic depth linearly over the layers.

    Args:
        rate (float): Rate of the last layer.
        num_layers (int): Number of layers.

    Returns:
        List[float]: One rate a layer, 0 for the first.
    """
    return [rate * i / max(1, num_layers - 1) for i in range(num_layers)]


def pad_to_patches(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Pad images at the bottom and right so that no pixel is cut off.

    Args:
        x (Tensor): Images (B, C, H, W).
        kernel (int): Patch size in pixels.
        stride (int): Step between patches in pixels.

    Returns:
        Tensor: Images whose sides hold a whole number of steps.
    """
    h, w = x.shape[-2:]
    new_h, new_w = ((num_patches(s, kernel, stride) - 1) * stride + kernel
                    for s in (h, w))
    if (new_h, new_w) == (h, w):
        return x
    return nn.functional.pad(x, (0, new_w - w, 0, new_h - h))


def num_patches(size: int, kernel: int, stride: int) -> int:
    """Count the patches along one side, the last one padded if needed.

    Args:
        size (int): Side in pixels.
        kernel (int): Patch size in pixels.
        stride (int): Step between patches in pixels.

    Returns:
        int: Number of patches, at least 1.
    """
    return max(0, -(-(size - kernel) // stride)) + 1


def _resize_pos_embed(pos_embed: Tensor, source: TokenLayout,
                      target: TokenLayout) -> Tensor:
    patches, cls_token = source.split(pos_embed)
    patches = resize_tokens(patches, source.grid, target.grid)
    if target.cls_index is None:
        return patches
    if cls_token is None:
        cls_token = torch.zeros_like(patches[:, :1])
    return target.join(patches, cls_token)
