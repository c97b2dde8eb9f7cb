from typing import Dict, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from transmamba_mm.registry import MODELS
from .open_clip_loading import learned_scale
from .open_clip_teacher import OpenCLIPTeacher

#: Arguments that tell where the weights are.
_NAMES = ('model_name', 'pretrained')


@MODELS.register_module()
class CLIP4ClipTeacher(OpenCLIPTeacher):
    """Both towers of an open_clip model, as a teacher of retrieval.

    It sees a clip frame by frame, as `CLIP4Clip
    <https://arxiv.org/abs/2104.08860>`_ does, and a video is the mean of its
    frames' features. The captions must come from the tokenizer of the model.

    Args:
        *args: As :class:`OpenCLIPTeacher`, without ``tower``.
        scale (float, optional): Factor on the cosines, by which the teacher
            was trained. None takes that of the weights file, or 100, CLIP's,
            if there is none. Defaults to None.
        **kwargs: As :class:`OpenCLIPTeacher`.

    Raises:
        ValueError: If the factor is not positive, or ``tower`` is given.

    Examples:
        >>> teacher = dict(
        ...     type='transmamba_mm.CLIP4ClipTeacher',
        ...     model_name='ViT-B-32-quickgelu',
        ...     pretrained='checkpoints/clip4clip.bin')
    """

    def __init__(self, *args, scale: Optional[float] = None, **kwargs) -> None:
        if 'tower' in kwargs:
            raise ValueError(f"CLIP4ClipTeacher.tower='{kwargs['tower']}', "
                             'but it uses both towers; leave it out.')
        if scale is not None and scale <= 0:
            raise ValueError(f'CLIP4ClipTeacher.scale={scale}, but it must be '
                             'positive.')
        super().__init__(*args, **kwargs)
        if scale is None:
            told = {**dict(zip(_NAMES, args)), **kwargs}
            scale = learned_scale(*map(told.get, _NAMES))
        self.scale = scale or 100.
        text = {k: v for k, v in kwargs.items() if k != 'input_size'}
        self.text = OpenCLIPTeacher(*args, tower='text', **text)

    @torch.no_grad()
    def text_features(self, text: Dict[str, Tensor]) -> Tensor:
        """Compute the features of texts.

        Args:
            text (Dict[str, Tensor]): ``input_ids`` (B, L).

        Returns:
            Tensor: Shape (B, D), as wide as the video's.

        Raises:
            ValueError: If the texts are longer than the tower allows.
        """
        ids = text['input_ids']
        # the library takes texts of its whole length only
        missing = self.text.model.context_length - ids.shape[1]
        if missing < 0:
            raise ValueError(
                f'Captions of {ids.shape[1]} tokens came to a teacher for '
                f'{self.text.model.context_length}: lower `max_length` of '
                'TokenizeText in the pipeline.')
        ids = F.pad(ids, (0, missing))
        return self.text.record(dict(input_ids=ids), [''])['']
