"""Datasets: the class-balanced fraction, image folders, image loading."""
from .class_balanced_subset import ClassBalancedSubset
from .image_folder_dataset import ImageFolderDataset
from .transforms import LoadImage

__all__ = ['ClassBalancedSubset', 'ImageFolderDataset', 'LoadImage']
