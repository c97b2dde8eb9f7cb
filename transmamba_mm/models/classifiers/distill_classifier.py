from typing import Dict, List

from mmpretrain.models import ImageClassifier
from mmpretrain.structures import DataSample
from torch import Tensor

from transmamba_mm.registry import MODELS
from ..distillers import Distillable


@MODELS.register_module()
class DistillClassifier(Distillable, ImageClassifier):
    """Image classifier that also learns from a teacher while it trains.

    In validation, test and inference it is the plain classifier, and its
    checkpoint loads into one. Needs
    :class:`~transmamba_mm.engine.BidirectionalDistillHook` in
    ``custom_hooks``.

    Args:
        *args: As ``ImageClassifier``.
        distiller (dict): Config of the distiller.
        **kwargs: As ``ImageClassifier``.
    """

    def __init__(self, *args, distiller: dict, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.init_distiller(distiller)

    def loss(self, inputs: Tensor,
             data_samples: List[DataSample]) -> Dict[str, Tensor]:
        """Compute ``loss_cls`` and the distillation terms.

        Args:
            inputs (Tensor): Images (B, C, H, W), normalised and mixed.
            data_samples (List[DataSample]): Labels.

        Returns:
            Dict[str, Tensor]: Loss terms and logged values.

        Raises:
            RuntimeError: If no teacher is attached.
        """
        own_loss = super().loss
        return self.distilled_loss(inputs,
                                   lambda: own_loss(inputs, data_samples),
                                   data_samples)
