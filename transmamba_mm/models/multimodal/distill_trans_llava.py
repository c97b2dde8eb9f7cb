from typing import Dict, List, Optional, Sequence, Tuple

from mmpretrain.structures import DataSample
from torch import Tensor

from transmamba_mm.registry import MODELS
from ..distillers import Distillable
from ..layers.token_layout import TokenLayout
from ..losses.vocabulary_loss import vocabulary_distillation_loss
from ..teachers import FrozenTeacher
from ..teachers.llava_teacher import LlavaTeacher
from .image_text import IGNORE_INDEX, ImageTextBatch
from .trans_llava import TransLlava


@MODELS.register_module()
class DistillTransLlava(Distillable, TransLlava):
    """A Mamba ``TransLlava`` that also learns from a LLaVA while it trains.

    The layers learn from the teacher's, by the same distiller as
    :class:`~transmamba_mm.models.DistillClassifier`, at all tokens but the
    padding; a causal Mamba scans in one direction, whose output is that of
    its block. At the tokens that are learnt, the next word's probabilities
    are brought near the teacher's. Source: TransMamba, adaptive
    distillation; the places and the second term are our choice. Needs
    :class:`~transmamba_mm.engine.BidirectionalDistillHook` in
    ``custom_hooks``, with :class:`~transmamba_mm.models.LlavaTeacher`.

    Args:
        *args: As :class:`TransLlava`.
        distiller (dict): Config of the distiller.
        answer_weight (float): Weight of the words' term. Defaults to 1.
        answer_temperature (float): Its temperature. Defaults to 1.
        vocabulary_chunk (int): Words whose logits are there at once.
            Defaults to 8192.
        **kwargs: As :class:`TransLlava`.

    Raises:
        ValueError: If the language model is no Mamba, the distiller compares
            logits or directions, or a number is out of range.
    """

    backbone_name = 'language_model.backbone'

    def __init__(self,
                 *args,
                 distiller: dict,
                 answer_weight: float = 1.,
                 answer_temperature: float = 1.,
                 vocabulary_chunk: int = 8192,
                 **kwargs) -> None:
        super().__init__(*args, **kwargs)
        for key, value, is_right in (('answer_weight', answer_weight,
                                      answer_weight >= 0),
                                     ('answer_temperature', answer_temperature,
                                      answer_temperature
                                      > 0), ('vocabulary_chunk',
                                             vocabulary_chunk, vocabulary_chunk
                                             > 0)):
            if not is_right:
                raise ValueError(f'model.{key}={value}; give a positive '
                                 'number.')
        self.answer_weight = answer_weight
        self.answer_temperature = answer_temperature
        self.vocabulary_chunk = vocabulary_chunk
        self._batch: Optional[ImageTextBatch] = None
        kind = self.language_model.config.model_type
        if kind not in ('mamba', 'mamba2'):
            raise ValueError(f'model.language_model is a {kind}; a student '
                             "that is distilled must be a 'mamba' or "
                             "'mamba2'.")
        _check_distiller(distiller)
        self.init_distiller({'features': 'block', **distiller})

    def _check_classes(self, teacher: FrozenTeacher) -> None:
        """Refuse a teacher of other words."""
        where = 'the `teacher` of BidirectionalDistillHook in custom_hooks'
        if not isinstance(teacher, LlavaTeacher):
            raise ValueError(
                f'{type(teacher).__name__} answers no questions: use '
                f"type='transmamba_mm.LlavaTeacher' in {where}.")
        own = self.language_model.config.vocab_size
        if own != teacher.num_classes:
            raise ValueError(
                f'The teacher has {teacher.num_classes} words and the student '
                f'{own}: set vocab_size of model.language_model.config and '
                f"model.tokenizer to the teacher's, or change {where}.")
        marks = getattr(self, 'vocabulary', None), teacher.vocabulary
        if None not in marks and int(marks[0]) != int(marks[1]):
            raise ValueError(
                'Teacher and student have different tokenizers, so that their '
                "words are other ones: set model.tokenizer to the teacher's, "
                f'or change {where}.')

    def loss(
            self,
            inputs: Dict[str, Tensor],
            data_samples: Optional[List[DataSample]] = None
    ) -> Dict[str, Tensor]:
        """Compute ``loss_cls``, the answers' loss, and the distillation.

        Args:
            inputs (Dict[str, Tensor]): The batch, with ``labels``.
            data_samples (List[DataSample], optional): See
                :meth:`TransLlava.forward`. Defaults to None.

        Returns:
            Dict[str, Tensor]: Loss terms and logged values.

        Raises:
            RuntimeError: If no teacher is attached.
        """
        own_loss = super().loss
        try:
            return self.distilled_loss(inputs,
                                       lambda: own_loss(inputs, data_samples),
                                       data_samples)
        finally:
            self._batch = None

    def embed(self, *args, **kwargs) -> ImageTextBatch:
        """See :meth:`TransLlava.embed`; the batch is kept for the loss."""
        batch = super().embed(*args, **kwargs)
        if self.training:
            self._batch = batch
        return batch

    def _features(self, student: Sequence[Tensor], teacher: Sequence[Tensor],
                  inputs: Dict[str, Tensor]) -> tuple:
        """Take the tokens that are no padding, as one row."""
        mask = self._batch.mask
        for x in teacher[:1]:
            if x.shape[:2] != mask.shape:
                raise ValueError(
                    f'The teacher sees texts and images of {x.shape[1]} '
                    f'tokens and the student of {mask.shape[1]}: give both '
                    'vision towers that make as many tokens of an image.')
        layouts = [TokenLayout((1, int(mask.sum())))] * len(student)
        return ([x[mask][None] for x in student],
                [x[mask][None] for x in teacher], layouts, layouts)

    def task_names(self) -> Tuple[Sequence[str], Sequence[str]]:
        """See :meth:`Distillable.task_names`: what the heads read."""
        if not self.answer_weight:
            return (), ()
        return ((self._endpoints()[0], ), (self.teacher.final_norm_name, ))

    def task_terms(self, records: Dict[str, Tensor], shown: Dict[str, Tensor],
                   data_samples: List[DataSample]) -> Dict[str, Tensor]:
        """See :meth:`Distillable.task_terms`: the words' term."""
        if not self.answer_weight:
            return {}
        learnt = self._batch.labels[:, 1:] != IGNORE_INDEX
        own = records[self._endpoints()[0]][:, :-1][learnt]
        told = shown[self.teacher.final_norm_name][:, :-1][learnt]
        loss = vocabulary_distillation_loss(
            own, self.language_model.get_output_embeddings(), told,
            self.teacher.head, self.answer_temperature, self.vocabulary_chunk)
        return dict(loss_answer=self.answer_weight * loss)


def _check_distiller(distiller: dict) -> None:
    """Refuse what has no meaning for texts."""
    if distiller.get('logit_weight', 0):
        raise ValueError(
            f"model.distiller.logit_weight={distiller['logit_weight']}, but "
            'a question has no classes: use model.answer_weight.')
    if distiller.get('features', 'block') != 'block' or \
            distiller.get('variant') == 'released_code':
        raise ValueError(
            'model.distiller of a DistillTransLlava takes the blocks of a '
            "causal Mamba, which scans in one direction: leave `features` and "
            "variant='released_code' out.")
    if distiller.get('layer_map') == 'cka':
        raise ValueError(
            "model.distiller.layer_map='cka' is for images alone; give "
            "'proportional' or one teacher layer a student layer.")
