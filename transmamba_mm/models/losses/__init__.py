"""Losses of distillation and of retrieval."""
from .adaptive_cosine_loss import AdaptiveCosineLoss
from .info_nce import info_nce
from .logit_loss import logit_distillation_loss
from .released_code_loss import ReleasedCodeLoss
from .similarity_loss import similarity_loss

__all__ = [
    'AdaptiveCosineLoss', 'ReleasedCodeLoss', 'info_nce',
    'logit_distillation_loss', 'similarity_loss'
]
