"""Data preprocessors: normalisation and batch augmentation."""
from .augmenting_data_preprocessor import (AugmentingDataPreprocessor,
                                           random_crop, random_flip)
from .clip_data_preprocessor import ClipDataPreprocessor

__all__ = [
    'AugmentingDataPreprocessor', 'ClipDataPreprocessor', 'random_crop',
    'random_flip'
]
