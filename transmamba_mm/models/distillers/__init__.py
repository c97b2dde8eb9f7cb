"""Distillers: which features are compared, and how."""
from .bidirectional_distiller import BidirectionalDistiller, match_tokens
from .distillable import Distillable
from .layer_map import map_layers

__all__ = [
    'BidirectionalDistiller', 'Distillable', 'map_layers', 'match_tokens'
]
