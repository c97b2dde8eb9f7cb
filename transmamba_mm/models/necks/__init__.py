"""Necks: the projection aligner and the fusion of images with text."""
from .class_name_fusion import ClassNameFusion
from .cross_mamba_fusion import CrossMambaFusion
from .projection_aligner import ProjectionAligner

__all__ = ['ClassNameFusion', 'CrossMambaFusion', 'ProjectionAligner']
