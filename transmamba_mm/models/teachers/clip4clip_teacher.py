from typing import Dict

import torch
from torch import Tensor

from transmamba_mm.registry import MODELS
from .open_clip_teacher import OpenCLIPTeacher


@MODELS.register_module()
class CLIP4ClipTeacher(OpenCLIPTeacher):
    """Both towers of an open_clip model, as a teacher of retrieval.

    It sees a clip frame by frame, as `CLIP4Clip
    <https://arxiv.org/abs/2104.08860>`_ does, and a video is the mean of its
    frames' features. The captions must come from the tokenizer of the model.

    Args:
        *args: As :class:`OpenCLIPTeacher`, without ``tower``.
        scale (float): Factor on the cosines, by which the teacher was
            trained. Defaults to 100, CLIP's.
        **kwargs: As :class:`OpenCLIPTeacher`.

    Raises:
        ValueError: If the factor is not positive, or ``tower`` is given.

    Examples:
        >>> teacher = dict(
        ...     type='transmamba_mm.CLIP4ClipTeacher',
        ...     model_name='ViT-B-32-quickgelu',
        ...     pretrained='checkpoints/clip4clip.bin')
    """

    def __init__(self, *args, scale: float = 100., **kwargs) -> None:
        if 'tower' in kwargs:
            raise ValueError(f"CLIP4ClipTeacher.tower='{kwargs['tower']}', "
                             'but it uses both towers; leave it out.')
        if scale <= 0:
            raise ValueError(f'CLIP4ClipTeacher.scale={scale}, but it must be '
                             'positive.')
        super().__init__(*args, **kwargs)
        self.scale = scale
        text = {k: v for k, v in kwargs.items() if k != 'input_size'}
        self.text = OpenCLIPTeacher(*args, tower='text', **text)

    @torch.no_grad()
    def text_features(self, text: Dict[str, Tensor]) -> Tensor:
        """Compute the features of texts.

        Args:
            text (Dict[str, Tensor]): ``input_ids`` (B, L).

        Returns:
            Tensor: Shape (B, D), as wide as the video's.
        """
        return self.text.record(dict(input_ids=text['input_ids']), [''])['']
