"""Distillers: which features are compared, and how."""
from .bidirectional_distiller import BidirectionalDistiller
from .cka import linear_cka
from .distillable import Distillable
from .grad_norm_balance import GradNormBalance
from .layer_map import map_layers
from .token_match import match_tokens
from .uncertainty_balance import UncertaintyBalance

__all__ = [
    'BidirectionalDistiller', 'Distillable', 'GradNormBalance',
    'UncertaintyBalance', 'linear_cka', 'map_layers', 'match_tokens'
]
