"""Layers shared by the backbones."""
from .bidirectional_mixer import BidirectionalMixer
from .clip_mixer import ClipMixer
from .context_block import ContextBlock
from .context_mixer import ContextMixer
from .cross_mixer import CrossMixer
from .direction_tap import DirectionTap
from .mamba_block import MambaBlock
from .mamba_mixer import MambaMixer
from .snake_mixer import SnakeMixer
from .token_layout import (TokenLayout, resize_frames, resize_patches,
                           resize_tokens)

__all__ = [
    'BidirectionalMixer', 'ClipMixer', 'ContextBlock', 'ContextMixer',
    'CrossMixer', 'DirectionTap', 'MambaBlock', 'MambaMixer', 'SnakeMixer',
    'TokenLayout', 'resize_frames', 'resize_patches', 'resize_tokens'
]
