"""Weight subcloning: a student starts from parts of its teacher."""
from .importance import UnitSelector, best_head_units, best_units, unit_scores
from .plan import PRESETS, Rule, SubclonePlan
from .report import Row, SubcloneReport
from .subclone import subclone_state_dict
from .teacher_state import block_numbers, num_layers, read_teacher

__all__ = [
    'PRESETS', 'Row', 'Rule', 'SubclonePlan', 'SubcloneReport', 'UnitSelector',
    'best_head_units', 'best_units', 'block_numbers', 'num_layers',
    'read_teacher', 'subclone_state_dict', 'unit_scores'
]
