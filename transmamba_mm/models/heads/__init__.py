"""Heads of text-video retrieval."""
from .cross_mamba_head import CrossMambaHead
from .mean_pool_head import MeanPoolHead
from .sequence_head import SequenceHead

__all__ = ['CrossMambaHead', 'MeanPoolHead', 'SequenceHead']
