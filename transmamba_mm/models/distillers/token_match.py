"""Bring the tokens of a student and a teacher together."""
from typing import Tuple

from torch import Tensor

from ..layers.token_layout import TokenLayout, resize_patches


def match_tokens(student: Tensor, teacher: Tensor, student_layout: TokenLayout,
                 teacher_layout: TokenLayout) -> Tuple[Tensor, Tensor]:
    """Bring two token sequences into one order and length.

    The teacher's grid is resized to the student's (bilinear, our choice), and
    its frames are made as many (see :func:`resize_patches`); the class tokens
    are compared if both have one, and dropped if not; the distillation token
    is dropped.

    Args:
        student (Tensor): Shape (..., L_s, C_s).
        teacher (Tensor): Shape (B, L_t, C_t).
        student_layout (TokenLayout): Layout of the L_s tokens.
        teacher_layout (TokenLayout): Layout of the L_t tokens.

    Returns:
        Tuple[Tensor, Tensor]: (..., L, C_s) and (B, L, C_t), in the
        student's order.
    """
    patches, cls_token = teacher_layout.split(teacher)
    patches = resize_patches(patches, teacher_layout, student_layout)
    if student_layout.cls_index is None:
        return student, patches
    if cls_token is None:
        return student_layout.split(student)[0], patches
    return student, student_layout.join(patches, cls_token)
