import os.path as osp
from typing import Optional, Tuple, Union

import torch
from mmengine.config import Config
from mmengine.runner import CheckpointLoader
from mmpretrain.apis import get_model
from torch import Tensor, nn

from transmamba_mm.registry import MODELS
from transmamba_mm.utils.state_dict import unwrap_state_dict
from ..backbones.base_mamba import BaseMamba, num_patches
from ..layers.token_layout import TokenLayout
from .frozen_teacher import FrozenTeacher

WHERE = 'the `teacher` of BidirectionalDistillHook in custom_hooks'


@MODELS.register_module()
class MMPretrainTeacher(FrozenTeacher):
    """Any MMPretrain classifier with a ViT-like backbone as the teacher.

    Or with a backbone of this package whose blocks are alike: PlainMamba,
    ViM and VideoMamba. A VideoMamba of clips teaches clips as a whole; any
    other sees them frame by frame.

    Args:
        config (str | dict): Path of a config file, name of a model in
            MMPretrain's zoo, or a config dict (the ``model`` dict alone will
            do).
        checkpoint (str): Weights file or URL.

    Raises:
        ValueError: If the backbone is not ViT-like, or the weights do not
            fit the model.
        FileNotFoundError: If there is no such file.
    """

    def __init__(self, config: Union[str, dict], checkpoint: str) -> None:
        model = get_model(_as_config(config))
        _check_backbone(model)
        load_teacher_weights(model, checkpoint)
        norm = getattr(model.backbone, 'final_norm_name', 'ln1')
        super().__init__(model, final_norm_name=f'backbone.{norm}')
        self.takes_clips = getattr(model.backbone, 'num_frames',
                                   None) is not None

    @property
    def embed_dims(self) -> int:
        """int: Width of the features."""
        return self.model.backbone.embed_dims

    @property
    def depth(self) -> int:
        """int: Number of transformer layers."""
        return len(self.model.backbone.layers)

    @property
    def num_classes(self) -> Optional[int]:
        """int, optional: Number of logits, if there is a head."""
        return getattr(self.model.head, 'num_classes', None)

    def token_layout(self,
                     image_size: Tuple[int, int],
                     layer: int = -1) -> TokenLayout:
        """See :meth:`FrozenTeacher.token_layout`."""
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
        return preprocessor_normalisation(self.model.data_preprocessor)


def preprocessor_normalisation(
        preprocessor: nn.Module) -> Tuple[Tensor, Tensor, bool]:
    """Read the normalisation off an MMPretrain data preprocessor.

    Args:
        preprocessor (nn.Module): A ``ClsDataPreprocessor``, or a
            ``ClipDataPreprocessor``.

    Returns:
        Tuple[Tensor, Tensor, bool]: Mean and std (C, 1, 1), 0 and 1 if there
        is none, and ``to_rgb``.
    """
    to_rgb = bool(getattr(preprocessor, 'to_rgb', False))
    if not getattr(preprocessor, '_enable_normalize', False):
        return torch.zeros(1, 1, 1), torch.ones(1, 1, 1), to_rgb
    mean, std = (
        t.reshape(-1, 1, 1) for t in (preprocessor.mean, preprocessor.std))
    return mean, std, to_rgb


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
        checkpoint (str): Weights file or URL.

    Raises:
        ValueError: If a tensor is missing, of another shape or not finite.
        FileNotFoundError: If there is no such file.
    """
    try:
        content = CheckpointLoader.load_checkpoint(checkpoint, 'cpu')
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"No teacher weights at '{checkpoint}'; change `checkpoint` in "
            f'{WHERE}, or train the teacher first.') from error
    state = {
        k[len('module.'):] if k.startswith('module.') else k: v
        for k, v in unwrap_state_dict(content).items()
    }
    own = model.state_dict()
    missing = [k for k in own if k not in state]
    resized = [
        f'{k}: {tuple(state[k].shape)} in the file, {tuple(v.shape)} here'
        for k, v in own.items() if k in state and state[k].shape != v.shape
        and not k.endswith('pos_embed')
    ]
    if missing or resized:
        raise ValueError(
            f"The teacher weights '{checkpoint}' do not fit the teacher's "
            f'config: {len(missing)} tensors missing {missing[:4]}, '
            f'{len(resized)} of another shape {resized[:4]}. A head of '
            'another shape means another number of classes; any other, '
            f'another architecture. Change `config` or `checkpoint` in '
            f'{WHERE}.')
    broken = [k for k in own if not state[k].isfinite().all()]
    if broken:
        raise ValueError(
            f"The teacher weights '{checkpoint}' hold NaN or infinity in "
            f'{broken[:4]}; its training failed. Change `checkpoint` in '
            f'{WHERE}.')
    model.load_state_dict(state, strict=False)
