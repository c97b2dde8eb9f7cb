"""Data preprocessors: normalisation and batch augmentation."""
from .augmenting_data_preprocessor import AugmentingDataPreprocessor
from .clip_data_preprocessor import ClipDataPreprocessor

__all__ = ['AugmentingDataPreprocessor', 'ClipDataPreprocessor']
