"""Datasets: the class-balanced fraction, fixed augmentation, image folders,
image loading, videos with captions."""
from .cached_image_folder import CachedImageFolder
from .class_balanced_subset import ClassBalancedSubset
from .collate import keep_batch
from .fixed_augmentation import FixedAugmentation
from .image_folder_dataset import ImageFolderDataset
from .transforms import (CropClip, LoadImage, LoadVideo, PackVideoText,
                         ResizeClip, TokenizeText)
from .video_text_dataset import VideoTextDataset

__all__ = [
    'CachedImageFolder', 'ClassBalancedSubset', 'CropClip',
    'FixedAugmentation', 'ImageFolderDataset', 'LoadImage', 'LoadVideo',
    'PackVideoText', 'ResizeClip', 'TokenizeText', 'VideoTextDataset',
    'keep_batch'
]
