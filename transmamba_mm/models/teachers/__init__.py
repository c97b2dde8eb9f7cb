"""Frozen teachers."""
from .frozen_teacher import FrozenTeacher
from .hf_teacher import HFTeacher
from .mmpretrain_teacher import MMPretrainTeacher, preprocessor_normalisation
from .open_clip_teacher import OpenCLIPTeacher

__all__ = [
    'FrozenTeacher', 'HFTeacher', 'MMPretrainTeacher', 'OpenCLIPTeacher',
    'preprocessor_normalisation'
]
