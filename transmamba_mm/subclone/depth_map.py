"""Which teacher block a student block is cloned from."""
from typing import Sequence, Tuple, Union

DEPTH_MAPS = ('proportional', 'first_n', 'last_n')


def map_depth(depth_map: Union[str, Sequence[int]], student_depth: int,
              teacher_depth: int, count: int) -> Tuple[int, ...]:
    """Map student blocks to teacher blocks.

    Args:
        depth_map (str | Sequence[int]): See
            :class:`~transmamba_mm.subclone.SubclonePlan`.
        student_depth (int): Number of student blocks N_s.
        teacher_depth (int): Number of teacher blocks N_t.
        count (int): The first so many student blocks are cloned.

    Returns:
        Tuple[int, ...]: N_s teacher block numbers; of blocks that are not
        cloned they mean nothing.

    Raises:
        ValueError: If ``depth_map`` does not fit.
    """
    if depth_map == 'proportional':
        return proportional_map(student_depth, teacher_depth)
    where = f'WeightSubcloneHook.depth_map={depth_map!r}'
    if not isinstance(depth_map, str):
        if len(depth_map) != student_depth or not all(
                j in range(teacher_depth) for j in depth_map):
            raise ValueError(
                f'{where} must hold {student_depth} numbers from 0 to '
                f'{teacher_depth - 1}, one teacher block for each student '
                'block.')
        return tuple(depth_map)
    if depth_map not in DEPTH_MAPS:
        raise ValueError(f'{where} is unknown; use one of {DEPTH_MAPS}, or '
                         'one teacher block for each student block.')
    if count > teacher_depth:
        raise ValueError(
            f'{where} needs {count} teacher blocks, but the teacher has '
            f'{teacher_depth}: set WeightSubcloneHook.first_n to at most '
            f"{teacher_depth}, or depth_map to 'proportional'.")
    start = 0 if depth_map == 'first_n' else teacher_depth - count
    return tuple(
        min(start + i, teacher_depth - 1) for i in range(student_depth))


def proportional_map(student_depth: int,
                     teacher_depth: int) -> Tuple[int, ...]:
    """Spread the blocks of a teacher over those of a student.

    Args:
        student_depth (int): Number of student blocks N_s.
        teacher_depth (int): Number of teacher blocks N_t.

    Returns:
        Tuple[int, ...]: floor(l * N_t / N_s) for each student block l.
    """
    return tuple(i * teacher_depth // student_depth
                 for i in range(student_depth))
