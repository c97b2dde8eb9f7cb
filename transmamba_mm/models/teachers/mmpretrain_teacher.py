import difflib
import os.path as osp
import re
from typing import Optional, Sequence, Tuple, Union

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmpretrain.apis import get_model
from mmpretrain.models import TIMMBackbone, TimmClassifier
from torch import Tensor, nn

from transmamba_mm.registry import MODELS
from ..backbones.base_mamba import BaseMamba, num_patches
from ..layers.token_layout import TokenLayout
from .frozen_teacher import FrozenTeacher
from .teacher_inputs import as_size, vit_layout
from .teacher_weights import (WHERE, read_teacher_weights, refuse_non_finite,
                              refuse_quantised)


@MODELS.register_module()
class MMPretrainTeacher(FrozenTeacher):
    """Any MMPretrain classifier with a ViT-like backbone as the teacher.

    Or with a backbone of this package whose blocks are alike: PlainMamba,
    ViM and VideoMamba. A VideoMamba of clips teaches clips as a whole; any
    other sees them frame by frame.

    The wrappers of timm, ``TimmClassifier`` and ``TIMMBackbone``, may hold
    any of timm's ViTs; their files, which are those of the official DeiT
    too, load as they are. Where their config has no normalisation, timm's
    own for that model is taken.

    Args:
        config (str | dict): Path of a config file, name of a model in
            MMPretrain's zoo, or a config dict (the ``model`` dict alone will
            do).
        checkpoint (str): Weights file ('.pth', '.safetensors'), a folder as
            timm or Hugging Face writes it, or a URL.
        dtype (str, optional): See :class:`FrozenTeacher`. Defaults to None.
        input_size (int | Tuple[int, int], optional): See
            :class:`FrozenTeacher`. Defaults to None.

    Raises:
        ValueError: If the backbone is not ViT-like, or the weights do not
            fit the model.
        FileNotFoundError: If there is no such file.
    """

    def __init__(self,
                 config: Union[str, dict],
                 checkpoint: str,
                 dtype: Optional[str] = None,
                 input_size: Union[int, Sequence[int], None] = None) -> None:
        model = build_teacher(config)
        timm_path = _timm_path(model)
        if timm_path is None:
            _check_backbone(model)
        load_teacher_weights(model, checkpoint)
        if timm_path is not None and input_size is not None:
            model.get_submodule(timm_path).set_input_size(as_size(input_size))
        if timm_path is None:
            norm = getattr(model.backbone, 'final_norm_name', 'ln1')
            paths = dict(final_norm_name=f'backbone.{norm}')
        else:
            paths = dict(
                layer_name=f'{timm_path}.blocks.{{}}',
                final_norm_name=f'{timm_path}.norm',
                head_name='head' if hasattr(model, 'head') else '')
        super().__init__(model, dtype=dtype, input_size=input_size, **paths)
        backbone = getattr(model, 'backbone', None)
        self.takes_clips = getattr(backbone, 'num_frames', None) is not None
        self._timm = timm_path and model.get_submodule(timm_path)
        if self._timm is not None:
            self.interpolates = bool(
                getattr(self._timm, 'dynamic_img_size', False))

    @property
    def embed_dims(self) -> int:
        """int: Width of the features."""
        if self._timm is not None:
            return self._timm.embed_dim
        return self.model.backbone.embed_dims

    @property
    def depth(self) -> int:
        """int: Number of transformer layers."""
        if self._timm is not None:
            return len(self._timm.blocks)
        return len(self.model.backbone.layers)

    @property
    def num_classes(self) -> Optional[int]:
        """int, optional: Number of logits, if there is a head."""
        if hasattr(self.model, 'head'):
            return getattr(self.model.head, 'num_classes', None)
        return self._timm.num_classes or None

    @property
    def native_size(self) -> Optional[Tuple[int, int]]:
        """Tuple[int, int], optional: Size the model was built for."""
        if self._timm is not None:
            return self._timm.patch_embed.img_size
        size = getattr(self.model.backbone, 'img_size', None)
        return as_size(size)

    @property
    def kind(self) -> str:
        """str: Name of the network's class, for the log."""
        return type(self._timm or self.model.backbone).__name__

    def token_layout(self,
                     image_size: Tuple[int, int],
                     layer: int = -1) -> TokenLayout:
        """See :meth:`FrozenTeacher.token_layout`."""
        if self._timm is not None:
            return vit_layout(image_size, self._timm.patch_embed.patch_size,
                              self._timm.num_prefix_tokens)
        if isinstance(self.model.backbone, BaseMamba):
            return self.model.backbone.token_layout(image_size, layer)
        conv = self.model.backbone.patch_embed.projection
        grid = tuple(
            num_patches(s, k, step)
            for s, k, step in zip(image_size, conv.kernel_size, conv.stride))
        extra = self.model.backbone.num_extra_tokens
        return TokenLayout(grid, extra, 0 if extra else None)

    def normalisation(self) -> Tuple[Tensor, Tensor, bool]:
        """See :meth:`FrozenTeacher.normalisation`."""
        preprocessor = self.model.data_preprocessor
        if self._timm is None or preprocessor._enable_normalize:
            return preprocessor_normalisation(preprocessor)
        cfg = self._timm.pretrained_cfg
        mean, std = (255 * torch.tensor(cfg[key]).reshape(-1, 1, 1)
                     for key in ('mean', 'std'))
        return mean, std, True


def preprocessor_normalisation(
        preprocessor: nn.Module) -> Tuple[Tensor, Tensor, bool]:
    """Read the normalisation off an MMPretrain data preprocessor.

    Args:
        preprocessor (nn.Module): A ``ClsDataPreprocessor``, a
            ``ClipDataPreprocessor`` or a ``LlavaDataPreprocessor``.

    Returns:
        Tuple[Tensor, Tensor, bool]: Mean and std (C, 1, 1), 0 and 1 if there
        is none, and whether the student sees RGB of inputs that are taken
        for BGR.
    """
    to_rgb = bool(
        getattr(preprocessor, 'to_rgb', False)
        or getattr(preprocessor, 'takes_rgb', False))
    normalises = getattr(preprocessor, '_enable_normalize',
                         getattr(preprocessor, 'normalise', False))
    if not normalises:
        return torch.zeros(1, 1, 1), torch.ones(1, 1, 1), to_rgb
    mean, std = (
        t.reshape(-1, 1, 1) for t in (preprocessor.mean, preprocessor.std))
    return mean, std, to_rgb


def build_teacher(config: Union[str, dict]) -> nn.Module:
    """Build the model; a misspelt one of timm's gets the nearest names.

    Args:
        config (str | dict): See :class:`MMPretrainTeacher`.

    Returns:
        nn.Module: The model, with random weights.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a model of timm is unknown.
    """
    try:
        return get_model(_as_config(config))
    except RuntimeError as error:
        unknown = re.search(r'Unknown model \((.+)\)', str(error))
        if unknown is None:
            raise
        import timm
        near = difflib.get_close_matches(unknown[1], timm.list_models())
        raise ValueError(
            f"timm has no model '{unknown[1]}'; the nearest names are {near}. "
            f'Change `model_name` in `config` of {WHERE}.') from error


def _as_config(config: Union[str, dict]) -> Union[str, Config]:
    if isinstance(config, str):
        if config.endswith('.py') and not osp.isfile(config):
            raise FileNotFoundError(
                f"No teacher config at '{config}'; change `config` in "
                f'{WHERE} to a config file, or to a name of MMPretrain\'s '
                'model zoo.')
        return config
    if 'model' not in config:
        config = dict(model=config)
    return Config(dict(config))


def _timm_path(model: nn.Module) -> Optional[str]:
    """Return where the timm ViT of a wrapper is, None without a wrapper."""
    for path, wrapper in (('model', TimmClassifier), ('backbone.timm_model',
                                                      TIMMBackbone)):
        owner = model if path == 'model' else getattr(model, 'backbone', None)
        if not isinstance(owner, wrapper):
            continue
        network = model.get_submodule(path)
        needed = ('blocks', 'norm', 'patch_embed', 'num_prefix_tokens')
        missing = [name for name in needed if not hasattr(network, name)]
        if missing:
            raise ValueError(
                f"timm's {type(network).__name__} cannot teach: it has no "
                f"{missing}. Take one of timm's ViTs, such as "
                f"'deit_small_patch16_224'; change `config` in {WHERE}.")
        return path
    return None


def _check_backbone(model: nn.Module) -> None:
    backbone = getattr(model, 'backbone', None)
    if isinstance(backbone, BaseMamba) and backbone.block_names == [
            f'layers.{i}' for i in range(len(backbone.layers))
    ]:
        return
    needed = ('layers', 'patch_embed', 'num_extra_tokens', 'ln1')
    missing = [name for name in needed if not hasattr(backbone, name)]
    if missing:
        raise ValueError(
            f'{type(backbone).__name__} cannot teach: it has no {missing}. '
            'MMPretrainTeacher takes classifiers with a ViT-like backbone '
            '(VisionTransformer, DistilledVisionTransformer), or with '
            'PlainMamba, VideoMamba or VisionMamba; change `config` in '
            f'{WHERE}.')


def load_teacher_weights(model: nn.Module, checkpoint: str) -> None:
    """Load weights strictly; a teacher that is half random teaches noise.

    Args:
        model (nn.Module): The teacher's model.
        checkpoint (str): Weights file, folder or URL.

    Raises:
        ValueError: If a tensor is missing, of another shape or not finite.
        FileNotFoundError: If there is no such file.
    """
    state = read_teacher_weights(
        checkpoint, f'`checkpoint` in {WHERE}, or train the teacher first')
    own = model.state_dict()
    missing = [k for k in own if k not in state]
    resized = [
        f'{k}: {tuple(state[k].shape)} in the file, {tuple(v.shape)} here'
        for k, v in own.items() if k in state and state[k].shape != v.shape
        and not (k.endswith('pos_embed') and _timm_path(model) is None)
    ]
    if missing or resized:
        raise ValueError(
            f"The teacher weights '{checkpoint}' do not fit the teacher's "
            f'config: {len(missing)} tensors missing {missing[:4]}, '
            f'{len(resized)} of another shape {resized[:4]}. A head of '
            'another shape means another number of classes; any other, '
            f'another architecture. Change `config` or `checkpoint` in '
            f'{WHERE}.')
    refuse_quantised(state, own, checkpoint)
    surplus = [k for k in state if k not in own]
    if surplus:
        print_log(
            f"{len(surplus)} tensors of '{checkpoint}' are not in the "
            f"teacher's model and are left out: {surplus[:4]}.",
            logger='current')
    model.load_state_dict(state, strict=False)
    refuse_non_finite(model, checkpoint)
