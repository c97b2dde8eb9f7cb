"""Distillation losses."""
from .adaptive_cosine_loss import AdaptiveCosineLoss
from .logit_loss import logit_distillation_loss
from .released_code_loss import ReleasedCodeLoss

__all__ = ['AdaptiveCosineLoss', 'ReleasedCodeLoss', 'logit_distillation_loss']
