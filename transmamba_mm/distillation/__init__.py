"""Tools of distillation that know no particular model."""
from .frozen_student import FrozenStudent, steady_mode
from .recorder import LayerRecorder, find_modules
from .stages import Stage, check_length, find_stage, parse_stages
from .touch import touch

__all__ = [
    'FrozenStudent', 'LayerRecorder', 'Stage', 'check_length', 'find_modules',
    'find_stage', 'parse_stages', 'steady_mode', 'touch'
]
