"""Necks: the projection aligner and the fusion of images with text."""
from .cross_mamba_fusion import CrossMambaFusion
from .projection_aligner import ProjectionAligner

__all__ = ['CrossMambaFusion', 'ProjectionAligner']
