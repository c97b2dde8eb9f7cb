"""Which teacher layer teaches which student layer."""
from typing import Sequence, Tuple, Union


def map_layers(kind: Union[str, Sequence[int]], student_depth: int,
               teacher_depth: int) -> Tuple[int, ...]:
    """Map every student layer to a teacher layer.

    Args:
        kind (str | Sequence[int]): 'proportional' maps layer l of N_s to
            ceil((l + 1) * N_t / N_s) - 1 of N_t, counted from 0, so that the
            last layers meet and a shallow teacher's layers teach equally many
            (our choice; the paper gives no map); a sequence names one
            teacher layer for each student layer, negative ones counting from
            the end.
        student_depth (int): Number of student layers N_s.
        teacher_depth (int): Number of teacher layers N_t.

    Returns:
        Tuple[int, ...]: N_s teacher layer indices.

    Raises:
        ValueError: On an unknown kind, a wrong length or an index out of
            range.

    Examples:
        >>> map_layers('proportional', 4, 12)
        (2, 5, 8, 11)
    """
    if isinstance(kind, str):
        if kind != 'proportional':
            raise ValueError(
                f"distiller.layer_map='{kind}' is unknown; use "
                "'proportional', 'cka', or a list of one teacher layer for "
                'each student layer.')
        return tuple(-(-(i + 1) * teacher_depth // student_depth) - 1
                     for i in range(student_depth))
    if len(kind) != student_depth:
        raise ValueError(
            f'distiller.layer_map has {len(kind)} entries, but the student '
            f'has {student_depth} layers; give one teacher layer for each.')
    bad = [i for i in kind if not -teacher_depth <= i < teacher_depth]
    if bad:
        raise ValueError(
            f'distiller.layer_map names the teacher layers {bad}, but '
            f'distiller.teacher_depth is {teacher_depth}.')
    return tuple(i % teacher_depth for i in kind)
