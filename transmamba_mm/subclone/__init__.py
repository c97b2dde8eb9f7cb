"""Weight subcloning: a student starts from parts of its teacher."""
from .activation import activation_scores, find_fed_modules
from .comparison import compare_with_student
from .importance import UnitSelector, best_head_units, best_units, unit_scores
from .plan import PRESETS, Rule, SubclonePlan
from .readers import read_teacher
from .report import Row, SubcloneReport
from .ssm import add_ssm_rows, clone_ssm, read_mamba
from .subclone import subclone_state_dict
from .teacher_info import TeacherInfo
from .teacher_state import (CANONICAL_AXES, CANONICAL_NAMES, TeacherState,
                            block_numbers, num_layers)

__all__ = [
    'CANONICAL_AXES', 'CANONICAL_NAMES', 'PRESETS', 'Row', 'Rule',
    'SubclonePlan', 'SubcloneReport', 'TeacherInfo', 'TeacherState',
    'UnitSelector', 'activation_scores', 'add_ssm_rows', 'best_head_units',
    'best_units', 'block_numbers', 'clone_ssm', 'compare_with_student',
    'find_fed_modules', 'num_layers', 'read_mamba', 'read_teacher',
    'subclone_state_dict', 'unit_scores'
]
