"""What the arguments of a distiller mean."""
from typing import List, Optional, Sequence, Tuple, Union


def layer_paths(layers: Union[str, Sequence[str]], depth: int) -> List[str]:
    """Read ``student_layers``.

    Args:
        layers (str | Sequence[str]): One path with '{}' for the index, or one
            a layer.
        depth (int): Number of student layers.

    Returns:
        List[str]: One module path a student layer.

    Raises:
        ValueError: If their number is another one.
    """
    if isinstance(layers, str):
        return [layers.format(i) for i in range(depth)]
    if len(layers) != depth:
        raise ValueError(
            f'distiller.student_layers has {len(layers)} paths, but '
            f'distiller.student_depth is {depth}; give one path a layer.')
    return list(layers)


def check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    """Refuse an unknown value.

    Args:
        name (str): Name of the argument.
        value (str): Its value.
        allowed (Sequence[str]): Values it may have.

    Raises:
        ValueError: If it has another one.
    """
    if value not in allowed:
        raise ValueError(f"distiller.{name}='{value}' is unknown; use one of "
                         f'{tuple(allowed)}.')


def loss_weights(variant: str, alpha: Optional[float],
                 beta: float) -> Tuple[float, float]:
    """Read ``alpha`` and ``beta``.

    Args:
        variant (str): Variant of the distillation.
        alpha (float, optional): None takes the variant's default.
        beta (float): Not used by 'paper_v1'.

    Returns:
        Tuple[float, float]: Weights of the task and of the feature terms.

    Raises:
        ValueError: If alpha is out of range.
    """
    if variant != 'paper_v1':
        return beta, 1. if alpha is None else alpha
    alpha = 0.5 if alpha is None else alpha
    if not 0 <= alpha <= 1:
        raise ValueError(f'distiller.alpha={alpha}, but the variant '
                         "'paper_v1' needs a value in [0, 1].")
    return alpha, 1. - alpha
