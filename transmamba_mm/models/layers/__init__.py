"""Layers shared by the backbones."""
from .bidirectional_mixer import BidirectionalMixer
from .direction_tap import DirectionTap
from .mamba_block import MambaBlock
from .mamba_mixer import MambaMixer
from .snake_mixer import SnakeMixer
from .token_layout import TokenLayout, resize_tokens

__all__ = [
    'BidirectionalMixer', 'DirectionTap', 'MambaBlock', 'MambaMixer',
    'SnakeMixer', 'TokenLayout', 'resize_tokens'
]
