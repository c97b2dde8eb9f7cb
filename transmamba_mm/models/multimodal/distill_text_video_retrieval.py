from typing import Dict, List, Sequence, Tuple

import torch.nn.functional as F
from mmpretrain.structures import DataSample
from torch import Tensor

from transmamba_mm.registry import MODELS
from transmamba_mm.utils.text_batch import stack_texts
from ..distillers import Distillable
from ..losses.info_nce import cosines
from ..losses.similarity_loss import similarity_loss
from ..teachers import FrozenTeacher
from .gather import gather, joint_value
from .text_video_retrieval import TextVideoRetrieval


@MODELS.register_module()
class DistillTextVideoRetrieval(Distillable, TextVideoRetrieval):
    """Text-video retrieval that also learns from a CLIP while it trains.

    The layers learn from the teacher's, which sees each frame by itself, as
    in :class:`~transmamba_mm.models.DistillClassifier`; and each video's
    similarities to the captions of the joined batch, and each caption's to
    the videos, are brought near the teacher's (our choice). Needs
    :class:`~transmamba_mm.engine.BidirectionalDistillHook` in
    ``custom_hooks``.

    Args:
        *args: As :class:`TextVideoRetrieval`.
        distiller (dict): Config of the distiller.
        similarity_weight (float): Weight of the similarities' term; other
            than 0 it needs :class:`~transmamba_mm.models.CLIP4ClipTeacher`.
            Defaults to 1.
        **kwargs: As :class:`TextVideoRetrieval`.

    Raises:
        ValueError: If the distiller compares logits, or the weight is
            negative.
    """

    def __init__(self,
                 *args,
                 distiller: dict,
                 similarity_weight: float = 1.,
                 **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if similarity_weight < 0:
            raise ValueError(f'model.similarity_weight={similarity_weight}, '
                             'but it must not be negative.')
        self.similarity_weight = similarity_weight
        self.init_distiller(distiller)
        if self.distiller.logit_weight > 0:
            raise ValueError(
                f'model.distiller.logit_weight={self.distiller.logit_weight}, '
                'but retrieval has no classes: use model.similarity_weight.')

    def _check_teacher(self, teacher: FrozenTeacher) -> None:
        super()._check_teacher(teacher)
        if self.similarity_weight and not hasattr(teacher, 'text_features'):
            raise ValueError(
                f'{type(teacher).__name__} sees no captions: use '
                "type='transmamba_mm.CLIP4ClipTeacher' in the `teacher` of "
                'BidirectionalDistillHook, or set model.similarity_weight=0.')

    def task_names(self) -> Tuple[Sequence[str], Sequence[str]]:
        """See :meth:`Distillable.task_names`: what both make of the clips."""
        return (('head', ), ('', )) if self.similarity_weight else ((), ())

    def task_terms(self, records: Dict[str, Tensor], shown: Dict[str, Tensor],
                   data_samples: List[DataSample]) -> Dict[str, Tensor]:
        """See :meth:`Distillable.task_terms`: the similarities' term."""
        if not self.similarity_weight:
            return {}
        video, texts = records['head']
        told = self.teacher.text_features(
            stack_texts(data_samples, video.device))
        seen, told = (
            F.normalize(x.float(), dim=-1) for x in (shown[''], told))
        scale, loss = self.head.scale(), 0.
        for own, other, own_t, other_t in ((video, texts, seen, told),
                                           (texts, video, told, seen)):
            loss = loss + similarity_loss(
                scale * cosines(own, gather(other)),
                self.teacher.scale * cosines(own_t, gather(other_t)))
        return dict(loss_similarity=self.similarity_weight *
                    joint_value(loss / 2))

    def loss(self, inputs: Tensor,
             data_samples: List[DataSample]) -> Dict[str, Tensor]:
        """Compute ``loss_cls``, the contrastive loss, and the distillation.

        Args:
            inputs (Tensor): Clips (B, C, T, H, W), normalised.
            data_samples (List[DataSample]): The texts.

        Returns:
            Dict[str, Tensor]: Loss terms and logged values.

        Raises:
            RuntimeError: If no teacher is attached.
        """
        own_loss = super().loss
        return self.distilled_loss(inputs,
                                   lambda: own_loss(inputs, data_samples),
                                   data_samples)
