"""Frozen teachers."""
from .cached_teacher import CachedTeacher
from .frozen_teacher import FrozenTeacher
from .hf_teacher import HFTeacher
from .mmpretrain_teacher import MMPretrainTeacher, preprocessor_normalisation
from .open_clip_teacher import OpenCLIPTeacher

__all__ = [
    'CachedTeacher', 'FrozenTeacher', 'HFTeacher', 'MMPretrainTeacher',
    'OpenCLIPTeacher', 'preprocessor_normalisation'
]
