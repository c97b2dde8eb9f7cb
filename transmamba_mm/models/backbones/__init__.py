"""Mamba backbones, and a Transformer that learns well from few images."""
from .conv_pos_vit import ConvPosViT
from .plain_mamba import PlainMamba
from .video_mamba import VideoMamba
from .vision_mamba import VisionMamba
from .vmamba import VMamba

__all__ = ['ConvPosViT', 'PlainMamba', 'VideoMamba', 'VisionMamba', 'VMamba']
