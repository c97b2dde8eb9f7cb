"""Datasets: the class-balanced fraction, fixed augmentation, image folders,
image loading."""
from .class_balanced_subset import ClassBalancedSubset
from .fixed_augmentation import FixedAugmentation
from .image_folder_dataset import ImageFolderDataset
from .transforms import LoadImage

__all__ = [
    'ClassBalancedSubset', 'FixedAugmentation', 'ImageFolderDataset',
    'LoadImage'
]
