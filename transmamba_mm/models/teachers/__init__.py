"""Frozen teachers."""
from .frozen_teacher import FrozenTeacher
from .mmpretrain_teacher import MMPretrainTeacher, preprocessor_normalisation

__all__ = ['FrozenTeacher', 'MMPretrainTeacher', 'preprocessor_normalisation']
