"""The distillation terms that compare features."""
from typing import Dict, Optional, Sequence, Tuple

import torch
from torch import Tensor

from transmamba_mm.distillation import touch
from ..layers.token_layout import TokenLayout
from ..losses import AdaptiveCosineLoss, ReleasedCodeLoss
from ..necks import ProjectionAligner

Layouts = Sequence[TokenLayout]
Terms = Dict[str, Tensor]


def check_features(student: Sequence, teacher: Sequence,
                   student_dims: Sequence[int], teacher_dims: int,
                   by_direction: bool) -> None:
    """Refuse records that are no features of the widths told.

    Args:
        student (Sequence): Outputs of the student's layers.
        teacher (Sequence): Outputs of the teacher's layers.
        student_dims (Sequence[int]): Width of each student layer.
        teacher_dims (int): Width of the teacher.
        by_direction (bool): Whether the student's have a directions' axis.

    Raises:
        ValueError: If they are something else.
    """
    told = dict(
        student_layers=(student, student_dims, 4 if by_direction else 3),
        teacher_layers=(teacher, [teacher_dims] * len(teacher), 3))
    for key, (features, dims, axes) in told.items():
        for x, d in zip(features, dims):
            if not isinstance(x, Tensor) or x.dim() != axes or \
                    x.shape[-1] != d:
                found = tuple(x.shape) if isinstance(
                    x, Tensor) else type(x).__name__
                raise ValueError(
                    f'The layers that model.distiller.{key} names give '
                    f'{found}, but tokens of width {d} are needed: name '
                    'whole blocks, or leave the key out.')


def adaptive_terms(pairs: Sequence[Tuple[Tensor, Tensor]],
                   aligner: ProjectionAligner,
                   loss: AdaptiveCosineLoss,
                   directions: Optional[Sequence[str]] = None,
                   average: bool = True) -> Tuple[Terms, Tensor, Tensor]:
    """Teach blocks, or scan directions, by their cosine to the teacher.

    Args:
        pairs (Sequence[Tuple[Tensor, Tensor]]): N features of the student,
            (M, B, L, C_s) with ``directions`` and (B, L, C_s) without, each
            with the teacher's (B, L, C_t), from :func:`match_tokens`.
        aligner (ProjectionAligner): Brings C_s to C_t.
        loss (AdaptiveCosineLoss): Compares N pairs.
        directions (Sequence[str], optional): Names of the M directions; None
            compares blocks. Defaults to None.
        average (bool): Whether the directions are averaged, not added up.
            Defaults to True.

    Returns:
        tuple: Losses by name; cosines and weights of the layers, both (N,),
        the means over the directions.
    """
    targets = [t for _, t in pairs]
    aligned = aligner(tuple(s for s, _ in pairs))
    if directions is None:
        value, cosines, weights = loss(aligned, targets)
        return dict(loss_feat=value), cosines, weights
    terms, cosines, weights = {}, [], []
    share = len(directions) if average else 1
    for m, name in enumerate(directions):
        value, c, w = loss([x[m] for x in aligned], targets)
        terms[f'loss_{name}'] = value / share
        cosines.append(c)
        weights.append(w)
    return terms, torch.stack(cosines).mean(0), torch.stack(weights).mean(0)


def released_terms(student: Sequence[Tensor], teacher: Sequence[Tensor],
                   student_layouts: Layouts, teacher_layouts: Layouts,
                   aligner: ProjectionAligner,
                   loss: ReleasedCodeLoss) -> Terms:
    """Teach as the authors' repository does.

    Args:
        student (Sequence[Tensor]): N features (B, L_s, C_s), the last one
            after the final norm.
        teacher (Sequence[Tensor]): One feature (B, L_t, C_t).
        student_layouts (Sequence[TokenLayout]): N layouts.
        teacher_layouts (Sequence[TokenLayout]): At least one.
        aligner (ProjectionAligner): Used where the widths differ.
        loss (ReleasedCodeLoss): Compares pooled features.

    Returns:
        Dict[str, Tensor]: ``loss_feat``.
    """
    pooled = [
        layout.split(x)[0].mean(dim=1)
        for x, layout in zip(student, student_layouts)
    ]
    if any(x.shape[-1] != teacher[0].shape[-1] for x in pooled):
        pooled = aligner(tuple(pooled))
        idle = 0.
    else:
        # as released: no calibration where the widths agree
        idle = touch(aligner.parameters())
    patches, cls_token = teacher_layouts[0].split(teacher[0])
    target = patches.mean(1) if cls_token is None else cls_token[:, 0]
    return dict(loss_feat=loss(pooled[-1], pooled[:-1], target) + idle)


def layer_stats(cosines: Tensor, weights: Tensor, log_layers: bool) -> Terms:
    """Summarise the layers for the log.

    Args:
        cosines (Tensor): Shape (N,).
        weights (Tensor): Shape (N,).
        log_layers (bool): Whether each layer is logged, too.

    Returns:
        Dict[str, Tensor]: Scalars.
    """
    stats = {}
    for name, values in (('cos', cosines), ('weight', weights)):
        stats[f'{name}_mean'] = values.mean()
        stats[f'{name}_min'] = values.min()
        stats[f'{name}_max'] = values.max()
        if log_layers:
            stats.update({f'{name}_l{i:02d}': v for i, v in enumerate(values)})
    return stats
