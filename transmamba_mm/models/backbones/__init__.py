"""Mamba backbones."""
from .plain_mamba import PlainMamba
from .video_mamba import VideoMamba
from .vision_mamba import VisionMamba

__all__ = ['PlainMamba', 'VideoMamba', 'VisionMamba']
