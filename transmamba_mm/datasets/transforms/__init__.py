"""Transforms of the data pipelines."""
from .ask_multiple_choice import AskMultipleChoice
from .crop_clip import CropClip
from .load_image import LoadImage
from .load_video import LoadVideo
from .pack_conversation import PackConversation
from .pack_video_text import PackVideoText
from .pad_to_square import PadToSquare
from .resize_clip import ResizeClip
from .sample_frames import sample_frames
from .tokenize_conversation import TokenizeConversation
from .tokenize_text import TokenizeText

__all__ = [
    'AskMultipleChoice', 'CropClip', 'LoadImage', 'LoadVideo',
    'PackConversation', 'PackVideoText', 'PadToSquare', 'ResizeClip',
    'TokenizeConversation', 'TokenizeText', 'sample_frames'
]
