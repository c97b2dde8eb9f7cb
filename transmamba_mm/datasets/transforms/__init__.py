"""Transforms of the data pipelines."""
from .load_image import LoadImage

__all__ = ['LoadImage']
