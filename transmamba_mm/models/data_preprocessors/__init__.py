"""Data preprocessors: normalisation and batch augmentation."""
from .augmenting_data_preprocessor import (AugmentingDataPreprocessor,
                                           random_crop, random_flip)
from .clip_data_preprocessor import ClipDataPreprocessor
from .llava_data_preprocessor import LlavaDataPreprocessor
from .video_text_data_preprocessor import VideoTextDataPreprocessor

__all__ = [
    'AugmentingDataPreprocessor', 'ClipDataPreprocessor',
    'LlavaDataPreprocessor', 'VideoTextDataPreprocessor', 'random_crop',
    'random_flip'
]
