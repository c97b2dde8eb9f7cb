"""Transforms of the data pipelines."""
from .crop_clip import CropClip
from .load_image import LoadImage
from .load_video import LoadVideo
from .pack_video_text import PackVideoText
from .resize_clip import ResizeClip
from .sample_frames import sample_frames
from .tokenize_text import TokenizeText

__all__ = [
    'CropClip', 'LoadImage', 'LoadVideo', 'PackVideoText', 'ResizeClip',
    'TokenizeText', 'sample_frames'
]
