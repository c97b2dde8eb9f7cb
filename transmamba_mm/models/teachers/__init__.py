"""Frozen teachers."""
from .frozen_teacher import FrozenTeacher
from .hf_teacher import HFTeacher
from .mmpretrain_teacher import MMPretrainTeacher, preprocessor_normalisation

__all__ = [
    'FrozenTeacher', 'HFTeacher', 'MMPretrainTeacher',
    'preprocessor_normalisation'
]
