"""Weight subcloning: a student starts from parts of its teacher."""
from .activation import activation_scores, find_fed_modules
from .importance import UnitSelector, best_head_units, best_units, unit_scores
from .plan import PRESETS, Rule, SubclonePlan
from .report import Row, SubcloneReport
from .ssm import add_ssm_rows, clone_ssm, read_mamba
from .subclone import subclone_state_dict
from .teacher_state import block_numbers, num_layers, read_teacher

__all__ = [
    'PRESETS', 'Row', 'Rule', 'SubclonePlan', 'SubcloneReport', 'UnitSelector',
    'activation_scores', 'add_ssm_rows', 'best_head_units', 'best_units',
    'block_numbers', 'clone_ssm', 'find_fed_modules', 'num_layers',
    'read_mamba', 'read_teacher', 'subclone_state_dict', 'unit_scores'
]
