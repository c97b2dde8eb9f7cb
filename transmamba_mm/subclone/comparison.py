"""Say where a student works otherwise than its teacher."""
from typing import List, Optional

import torch
from mmengine.logging import print_log
from torch import nn

from .teacher_info import TeacherInfo
from .teacher_state import TeacherState

_ACTIVATIONS = {
    nn.GELU: 'gelu',
    nn.SiLU: 'silu',
    nn.ReLU: 'relu',
}


def compare_with_student(teacher: TeacherState, model: nn.Module) -> List[str]:
    """Log what differs: activation of the MLPs, normalisation of the pixels.

    Cloned tensors that meet another activation, or other input, start further
    from what they were trained for; training goes on all the same.

    Args:
        teacher (TeacherState): The teacher.
        model (nn.Module): The student, such as a classifier with its data
            preprocessor.

    Returns:
        List[str]: The sentences that were logged.
    """
    info = getattr(teacher, 'info', TeacherInfo())
    notes = [
        note for note in (_activation(info, model), _pixels(info, model),
                          _norms(info), _extras(teacher)) if note
    ]
    for note in notes:
        print_log(f'Weight subcloning: {note}', logger='current', level=30)
    return notes


def _activation(info: TeacherInfo, model: nn.Module) -> Optional[str]:
    mlps = [m for name, m in model.named_modules() if name.endswith('.mlp')]
    own = next((_ACTIVATIONS[type(layer)] for mlp in mlps
                for layer in mlp.modules() if type(layer) in _ACTIVATIONS),
               None)
    theirs = info.activation or ''
    if own is None or own == ('gelu' if theirs.startswith('gelu') else theirs):
        return None
    if info.activation is None:
        return (f"the student's MLPs use '{own}', and the teacher's file does "
                "not tell whether the teacher's do ('quick_gelu' in OpenAI's "
                'CLIP).')
    return (f"the teacher's MLPs use '{info.activation}', the student's "
            f"'{own}'; cloned MLPs start with another function.")


def _pixels(info: TeacherInfo, model: nn.Module) -> Optional[str]:
    own = getattr(model, 'data_preprocessor', None)
    mean, std = getattr(own, 'mean', None), getattr(own, 'std', None)
    if info.mean is None or info.std is None or mean is None or std is None:
        return None
    theirs = 255 * torch.tensor([info.mean, info.std])
    mine = torch.stack([mean.flatten().cpu(), std.flatten().cpu()]).float()
    if theirs.shape == mine.shape and (theirs - mine).abs().max() < 0.5:
        return None
    rounded = [[round(v, 2) for v in row] for row in theirs.tolist()]
    return (f'the teacher saw pixels with mean {rounded[0]} and std '
            f'{rounded[1]}, the student sees {mine[0].tolist()} and '
            f'{mine[1].tolist()}; set both in `data_preprocessor` to let the '
            'cloned patch embedding see what it was trained for.')


def _norms(info: TeacherInfo) -> Optional[str]:
    if info.norm_first:
        return None
    return (f"the {info.dialect} teacher's norms come after attention and "
            "MLP, the student's before; `exclude=['norm']` in the plan "
            'leaves the norms alone.')


def _extras(teacher: TeacherState) -> Optional[str]:
    """Name what comes between the teacher's tensors, but not the student's."""
    extras = [
        text for name, text in (('pre_norm.weight',
                                 'a norm between embeddings and blocks'),
                                ('layers.0.scale1',
                                 'factors on the output of its attention'),
                                ('layers.0.scale2',
                                 'factors on the output of its MLPs'))
        if name in teacher
    ]
    if not extras:
        return None
    return (f'the teacher has {" and ".join(extras)}, which no student has; '
            'what is cloned from beside them starts with another scale.')
