"""How similar two layers are: linear centred kernel alignment.

Glossary: X (n, p) and Y (n, q) features of the same n tokens, centred;
K = X X^T and L = Y Y^T with zeros on the diagonal; S student and T teacher
layers.

    CKA(X, Y)  = |Y^T X|^2 / (|X^T X| |Y^T Y|)                   whole data
    HSIC(K, L) = (sum(K * L) + sum(K) sum(L) / ((n - 1)(n - 2))
                 - 2 (K 1)(L 1) / (n - 2)) / (n (n - 3))         one batch
    CKA[s, t]  = mean HSIC(K_s, L_t)
                 / sqrt(mean HSIC(K_s, K_s) mean HSIC(L_t, L_t))  batches
"""
from typing import Dict, Iterable, Sequence, Tuple

import torch
from mmengine.dist import all_reduce, broadcast
from mmengine.model import BaseModel
from torch import Tensor

from transmamba_mm.distillation import LayerRecorder
from ..layers.token_layout import TokenLayout
from ..teachers import FrozenTeacher
from .token_match import match_tokens


def linear_cka(x: Tensor, y: Tensor) -> Tensor:
    """Compare two sets of features of the same samples.

    Source: Kornblith et al., `Similarity of Neural Network Representations
    Revisited <https://arxiv.org/abs/1905.00414>`_.

    Args:
        x (Tensor): Shape (n, p).
        y (Tensor): Shape (n, q).

    Returns:
        Tensor: Scalar in [0, 1], float64; the same for rotated, shifted or
        scaled features, and 0 if one of them does not vary.

    Raises:
        ValueError: If the numbers of samples differ.
    """
    if x.dim() != 2 or y.dim() != 2 or len(x) != len(y):
        raise ValueError(
            'linear_cka compares features (n, p) and (n, q) of the same n '
            f'samples, got {tuple(x.shape)} and {tuple(y.shape)}.')
    x, y = (t.double() - t.double().mean(0) for t in (x, y))
    norm = (x.T @ x).norm() * (y.T @ y).norm()
    return (y.T @ x).norm()**2 / norm.clamp(min=torch.finfo(norm.dtype).tiny)


class CKAMeter:
    """Linear CKA of all pairs of layers, batch by batch.

    The unbiased estimate of HSIC is averaged over the batches, so that the
    result hardly depends on their size. Source: Nguyen et al., `Do Wide and
    Deep Networks Learn the Same Things <https://arxiv.org/abs/2010.15327>`_.

    Args:
        num_students (int): Number of student layers S.
        num_teachers (int): Number of teacher layers T.
        max_tokens (int): Tokens compared at once; of more, as many are taken
            at equal distances. Defaults to 512.
    """

    def __init__(self,
                 num_students: int,
                 num_teachers: int,
                 max_tokens: int = 512) -> None:
        self.max_tokens = max_tokens
        self.cross = torch.zeros(
            num_students, num_teachers, dtype=torch.double)
        self.own_student = torch.zeros(num_students, dtype=torch.double)
        # the teacher's tokens are resized for each student layer
        self.own_teacher = torch.zeros_like(self.cross)

    def update(self, student: Sequence[Tensor], teacher: Sequence[Tensor],
               student_layouts: Sequence[TokenLayout],
               teacher_layouts: Sequence[TokenLayout]) -> None:
        """Add one batch.

        Args:
            student (Sequence[Tensor]): S features (B, L_s, C_s).
            teacher (Sequence[Tensor]): T features (B, L_t, C_t).
            student_layouts (Sequence[TokenLayout]): S layouts.
            teacher_layouts (Sequence[TokenLayout]): T layouts.
        """
        grams = {}
        for i, (x, layout) in enumerate(zip(student, student_layouts)):
            pairs = [(x, y, layout, other)
                     for y, other in zip(teacher, teacher_layouts)]
            own = self._gram(match_tokens(*pairs[0])[0])
            if layout not in grams:
                grams[layout] = [
                    self._gram(match_tokens(*pair)[1]) for pair in pairs
                ]
            for j, gram in enumerate(grams[layout]):
                self.cross[i, j] += unbiased_hsic(own, gram).cpu()
                self.own_teacher[i, j] += unbiased_hsic(gram, gram).cpu()
            self.own_student[i] += unbiased_hsic(own, own).cpu()

    def _gram(self, tokens: Tensor) -> Tensor:
        """Return the Gram matrix (n, n) of tokens (B, L, C)."""
        rows = tokens.flatten(0, -2)
        if len(rows) > self.max_tokens:
            picked = torch.linspace(0, len(rows) - 1, self.max_tokens)
            rows = rows[picked.long().to(rows.device)]
        rows = rows.double()
        rows = rows - rows.mean(0)
        return (rows @ rows.T).fill_diagonal_(0)

    def matrix(self, device: torch.device = torch.device('cpu')) -> Tensor:
        """Return the similarities, the same on all processes.

        Args:
            device (torch.device): Where the processes exchange tensors.
                Defaults to the CPU.

        Returns:
            Tensor: Shape (S, T), float64, on the CPU; 0 where a layer does
            not vary.
        """
        sums = torch.cat([
            self.cross.flatten(),
            self.own_teacher.flatten(), self.own_student
        ]).to(device)
        all_reduce(sums)
        broadcast(sums)
        cross, teacher, student = sums.cpu().split([self.cross.numel()] * 2 +
                                                   [len(self.own_student)])
        cross, teacher = (t.view_as(self.cross) for t in (cross, teacher))
        norm = student[:, None] * teacher
        safe = norm.clamp(min=0).sqrt().clamp(min=1e-300)
        return torch.where(norm > 0, cross / safe, torch.zeros_like(cross))


def unbiased_hsic(k: Tensor, m: Tensor) -> Tensor:
    """Estimate the dependence of two features without bias.

    Args:
        k (Tensor): Gram matrix (n, n) with a zero diagonal, n > 3.
        m (Tensor): Another one.

    Returns:
        Tensor: Scalar.

    Raises:
        ValueError: If there are fewer than 4 samples.
    """
    n = len(k)
    if n < 4:
        raise ValueError(
            f"distiller.layer_map='cka' needs batches of at least 4 tokens, "
            f'got {n}; raise train_dataloader.batch_size.')
    k_rows, m_rows = k.sum(0), m.sum(0)
    total = (k * m).sum()
    total = total + k_rows.sum() * m_rows.sum() / ((n - 1) * (n - 2))
    total = total - 2 * (k_rows @ m_rows) / (n - 2)
    return total / (n * (n - 3))


@torch.no_grad()
def measure_cka(model: BaseModel, teacher: FrozenTeacher,
                batches: Iterable[Dict]) -> Tensor:
    """Compare every student layer with every teacher layer.

    Args:
        model (BaseModel): A model with ``backbone`` and ``distiller``, in the
            mode in which it is to be measured.
        teacher (FrozenTeacher): The teacher, attached to the model.
        batches (Iterable[Dict]): Batches as from the data loader.

    Returns:
        Tensor: Shape (S, T), the same on all processes.
    """
    distiller = model.distiller
    names = distiller.feature_names()
    layer = distiller.teacher_layers or teacher.layer_name
    seen = [layer.format(i) for i in range(distiller.teacher_depth)]
    meter = CKAMeter(len(names), len(seen))
    for data in batches:
        inputs = model.data_preprocessor(data, True)['inputs']
        size = tuple(inputs.shape[2:])
        with LayerRecorder(model, names) as records:
            model.backbone(inputs)
        shown = teacher.record(inputs, seen)
        # the directions' mean is the block's output
        student = [
            x.mean(0) if distiller.use_directions else x
            for x in (records[n] for n in names)
        ]
        meter.update(
            student, [shown[n] for n in seen],
            [model.backbone.token_layout(size, i) for i in range(len(names))],
            [teacher.record_layout(size, i) for i in range(len(seen))])
    return meter.matrix(inputs.device)


def pick_layers(matrix: Tensor) -> Tuple[int, ...]:
    """Choose the most similar teacher layer for each student layer.

    Args:
        matrix (Tensor): Similarities (S, T).

    Returns:
        Tuple[int, ...]: S teacher layers; of equal ones the first.
    """
    return tuple(int(row.argmax()) for row in matrix)
