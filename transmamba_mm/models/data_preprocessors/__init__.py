"""Data preprocessors: normalisation and batch augmentation."""
from .augmenting_data_preprocessor import (AugmentingDataPreprocessor,
                                           random_crop, random_flip)
from .clip_data_preprocessor import ClipDataPreprocessor
from .video_text_data_preprocessor import VideoTextDataPreprocessor

__all__ = [
    'AugmentingDataPreprocessor', 'ClipDataPreprocessor',
    'VideoTextDataPreprocessor', 'random_crop', 'random_flip'
]
