"""Datasets: the class-balanced fraction, fixed augmentation, image folders,
image loading, videos with captions, questions about images."""
from .cached_image_folder import CachedImageFolder
from .cached_video_text_dataset import CachedVideoTextDataset
from .class_balanced_subset import ClassBalancedSubset
from .collate import keep_batch
from .fixed_augmentation import FixedAugmentation
from .image_folder_dataset import ImageFolderDataset
from .transforms import (AskMultipleChoice, CropClip, LoadImage, LoadVideo,
                         PackConversation, PackVideoText, PadToSquare,
                         ResizeClip, TokenizeConversation, TokenizeText)
from .video_text_dataset import VideoTextDataset
from .vqa import DaquarDataset, EasyVQADataset, LlavaInstructDataset

__all__ = [
    'AskMultipleChoice', 'CachedImageFolder', 'CachedVideoTextDataset',
    'ClassBalancedSubset', 'CropClip', 'DaquarDataset', 'EasyVQADataset',
    'FixedAugmentation', 'ImageFolderDataset', 'LlavaInstructDataset',
    'LoadImage', 'LoadVideo', 'PackConversation', 'PackVideoText',
    'PadToSquare', 'ResizeClip', 'TokenizeConversation', 'TokenizeText',
    'VideoTextDataset', 'keep_batch'
]
