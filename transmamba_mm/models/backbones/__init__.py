"""Mamba backbones."""
from .plain_mamba import PlainMamba
from .video_mamba import VideoMamba
from .vision_mamba import VisionMamba
from .vmamba import VMamba

__all__ = ['PlainMamba', 'VideoMamba', 'VisionMamba', 'VMamba']
