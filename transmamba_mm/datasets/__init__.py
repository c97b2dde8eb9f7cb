"""Datasets: the class-balanced fraction, fixed augmentation, image folders,
image loading."""
from .cached_image_folder import CachedImageFolder
from .class_balanced_subset import ClassBalancedSubset
from .collate import keep_batch
from .fixed_augmentation import FixedAugmentation
from .image_folder_dataset import ImageFolderDataset
from .transforms import LoadImage

__all__ = [
    'CachedImageFolder', 'ClassBalancedSubset', 'FixedAugmentation',
    'ImageFolderDataset', 'LoadImage', 'keep_batch'
]
