"""How a model of the Transformers library wants its images normalised."""
import logging
from typing import Dict, Optional, Sequence, Tuple

import torch
from mmengine.logging import print_log
from torch import Tensor

from .hf_loading import import_transformers, is_offline

Triple = Tuple[float, float, float]
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258,
                                              0.27577711))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
#: What a family's images are normalised with, in case the folder is silent.
DEFAULTS: Dict[str, Tuple[Triple, Triple]] = {
    'vit': HALF,
    'clip_vision_model': CLIP,
    'siglip_vision_model': HALF,
}


def read_normalisation(
        pretrained: str,
        model_type: str,
        mean: Optional[Sequence[float]] = None,
        std: Optional[Sequence[float]] = None) -> Tuple[Tensor, Tensor]:
    """Read mean and standard deviation off a model's processor config.

    Args:
        pretrained (str): Folder, or name on the hub.
        model_type (str): Kind of the network, for the values of its family
            if there is no processor config.
        mean (Sequence[float], optional): Given by the user, in pixel values.
            Defaults to None.
        std (Sequence[float], optional): Likewise. Defaults to None.

    Returns:
        Tuple[Tensor, Tensor]: Mean and std (C, 1, 1) in pixel values.

    Raises:
        ValueError: If only one of ``mean`` and ``std`` is given.
    """
    if (mean is None) != (std is None):
        raise ValueError(f'HFTeacher: mean={mean} and std={std}; give both, '
                         'in pixel values (0 to 255), or neither.')
    if mean is not None:
        return _column(mean), _column(std)
    found = _processor_config(pretrained)
    if found is None:
        values = DEFAULTS.get(model_type, IMAGENET)
        print_log(
            f"'{pretrained}' has no preprocessor_config.json; its images are "
            f'taken to have mean {values[0]} and std {values[1]} of 1. Set '
            '`mean` and `std` of the HFTeacher if these are others.',
            logger='current',
            level=logging.WARNING)
        return 255 * _column(values[0]), 255 * _column(values[1])
    scale = found.get('rescale_factor') or 1 / 255
    if not found.get('do_rescale', True):
        scale = 1.
    if not found.get('do_normalize', True):
        return torch.zeros(3, 1, 1), torch.full((3, 1, 1), 1 / scale)
    half = HALF if model_type != 'deit' else IMAGENET
    mean, std = (found.get(f'image_{k}') or half[i]
                 for i, k in enumerate(('mean', 'std')))
    return _column(mean) / scale, _column(std) / scale


def _processor_config(pretrained: str) -> Optional[dict]:
    """Return the image part of the processor config, None without one."""
    mixin = import_transformers().image_processing_utils.ImageProcessingMixin
    try:
        content, _ = mixin.get_image_processor_dict(
            pretrained, local_files_only=is_offline(pretrained))
    except OSError:
        return None
    return content.get('image_processor', content)


def _column(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).reshape(-1, 1, 1)
