"""Data preprocessors: normalisation and batch augmentation."""
from .clip_data_preprocessor import ClipDataPreprocessor

__all__ = ['ClipDataPreprocessor']
