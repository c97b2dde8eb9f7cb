"""Mamba backbones."""
from .plain_mamba import PlainMamba
from .vision_mamba import VisionMamba

__all__ = ['PlainMamba', 'VisionMamba']
