"""Frozen teachers."""
from .cached_teacher import CachedTeacher
from .clip4clip_teacher import CLIP4ClipTeacher
from .frozen_teacher import FrozenTeacher
from .hf_teacher import HFTeacher
from .llava_teacher import LlavaTeacher
from .mmpretrain_teacher import MMPretrainTeacher, preprocessor_normalisation
from .open_clip_teacher import OpenCLIPTeacher

__all__ = [
    'CLIP4ClipTeacher', 'CachedTeacher', 'FrozenTeacher', 'HFTeacher',
    'LlavaTeacher', 'MMPretrainTeacher', 'OpenCLIPTeacher',
    'preprocessor_normalisation'
]
