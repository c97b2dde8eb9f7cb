"""Losses of distillation and of retrieval."""
from .adaptive_cosine_loss import AdaptiveCosineLoss
from .info_nce import cosines, info_nce
from .logit_loss import logit_distillation_loss
from .released_code_loss import ReleasedCodeLoss
from .similarity_loss import similarity_loss
from .vocabulary_loss import vocabulary_distillation_loss

__all__ = [
    'AdaptiveCosineLoss', 'ReleasedCodeLoss', 'cosines', 'info_nce',
    'logit_distillation_loss', 'similarity_loss',
    'vocabulary_distillation_loss'
]
