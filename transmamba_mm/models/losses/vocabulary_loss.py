"""Distil logits over a vocabulary that is too large to hold them at once.

Glossary: z = h W^T + b logits of a token; T temperature; p, q = softmax(z /
T) of the teacher and of the student.

    KL(p | q) = sum_v p_v (a_v - b_v) - lse(a) + lse(b),  a = z_t / T,
    b = z_s / T

Each sum over v is taken chunk by chunk; what a chunk needs for the backward
pass is computed again there.
"""
from typing import Optional, Tuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Chunk = Tuple[Tensor, Optional[Tensor]]


def vocabulary_distillation_loss(student: Tensor,
                                 student_head: nn.Linear,
                                 teacher: Tensor,
                                 teacher_head: nn.Linear,
                                 temperature: float = 1.,
                                 chunk: int = 8192) -> Tensor:
    """KL divergence of the next word, times T^2, mean over the tokens.

    Source: as :func:`logit_distillation_loss`; never more logits than
    tokens times ``chunk`` are there at once (our choice).

    Args:
        student (Tensor): Inputs of the student's head (n, C_s).
        student_head (nn.Linear): Its head.
        teacher (Tensor): Inputs of the teacher's head (n, C_t), without
            gradient.
        teacher_head (nn.Linear): Its head, with as many words.
        temperature (float): T, positive. Defaults to 1.
        chunk (int): Words at once. Defaults to 8192.

    Returns:
        Tensor: Scalar, float32; 0 without tokens.
    """
    words = range(0, len(student_head.weight), chunk)
    with torch.no_grad():
        told = [
            _logits(teacher, _rows(teacher_head, i, chunk),
                    temperature).logsumexp(-1) for i in words
        ]
        total = torch.stack(told).logsumexp(0)
    gains, sums = [], []
    for i in words:
        rows = _rows(student_head, i, chunk)
        gain, own = checkpoint(
            _compare,
            student,
            *rows,
            teacher,
            *_rows(teacher_head, i, chunk),
            total,
            temperature,
            use_reentrant=False)
        gains.append(gain)
        sums.append(own)
    loss = torch.stack(gains).sum(0) - total + torch.stack(sums).logsumexp(0)
    return loss.sum() / max(1, len(loss)) * temperature**2


def _rows(head: nn.Linear, start: int, size: int) -> Chunk:
    """Return the weights and biases of some words."""
    bias = getattr(head, 'bias', None)
    return (head.weight[start:start + size],
            None if bias is None else bias[start:start + size])


def _logits(hidden: Tensor, rows: Chunk, temperature: float) -> Tensor:
    """Return the logits of some words, in float32."""
    weight, bias = rows
    out = nn.functional.linear(hidden.to(weight.dtype), weight, bias)
    return out.float() / temperature


def _compare(student: Tensor, weight: Tensor, bias: Optional[Tensor],
             teacher: Tensor, teacher_weight: Tensor,
             teacher_bias: Optional[Tensor], total: Tensor,
             temperature: float) -> Tuple[Tensor, Tensor]:
    """Return sum p (a - b), and lse(b), over some words, per token."""
    own = _logits(student, (weight, bias), temperature)
    with torch.no_grad():
        told = _logits(teacher, (teacher_weight, teacher_bias), temperature)
        share = (told - total[:, None]).exp()
    gain = (share * (told - own)).sum(-1)
    return gain, own.logsumexp(-1)
