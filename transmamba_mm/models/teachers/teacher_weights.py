"""The weights of a teacher: read them, and refuse what cannot teach."""
import re
from typing import Dict, List

from torch import Tensor, nn

from transmamba_mm.utils.weight_files import WeightFile, open_weights

#: Where a config names the teacher, for messages.
WHERE = 'the `teacher` of BidirectionalDistillHook in custom_hooks'


def open_teacher_weights(path: str, where: str) -> WeightFile:
    """Open weights, and say on failure where the config names them.

    Args:
        path (str): See :func:`~transmamba_mm.utils.weight_files.open_weights`.
        where (str): The argument in the config, for messages.

    Returns:
        WeightFile: Tensors by name, read when they are asked for.

    Raises:
        FileNotFoundError: If there is no such file, or a shard is missing.
        ValueError: If a file is damaged, or would run code when loaded.
    """
    try:
        return open_weights(path)
    except (FileNotFoundError, ValueError) as error:
        told = str(error).rstrip('.')
        raise type(error)(f'{told}. Change {where}.') from error


def read_teacher_weights(path: str, where: str) -> Dict[str, Tensor]:
    """Read all weights; a distributed wrapper's prefix is taken off.

    Args:
        path (str): See :func:`open_teacher_weights`.
        where (str): Likewise.

    Returns:
        Dict[str, Tensor]: The tensors by name.
    """
    weights = open_teacher_weights(path, where)
    return {re.sub(r'^module\.', '', k): weights[k] for k in weights}


def refuse_quantised(state: Dict[str, Tensor], own: Dict[str, Tensor],
                     source: str) -> None:
    """Refuse whole numbers where the network has real ones.

    Args:
        state (Dict[str, Tensor]): What the file holds.
        own (Dict[str, Tensor]): What the network has.
        source (str): Where the weights are from.

    Raises:
        ValueError: If there are such weights.
    """
    odd = [
        f'{k} ({str(state[k].dtype)[len("torch."):]})' for k, v in own.items()
        if k in state and v.is_floating_point()
        and not state[k].is_floating_point()
    ]
    if odd:
        raise quantised_error(odd, source)


def quantised_error(names: List[str], source: str) -> ValueError:
    """Say that weights are quantised.

    Args:
        names (List[str]): Some of them, with their types.
        source (str): Where the weights are from.

    Returns:
        ValueError: To be raised.
    """
    return ValueError(
        f"The teacher weights '{source}' are quantised: {names[:4]}. Take the "
        f'same weights in float32, float16 or bfloat16 for {WHERE}.')


def refuse_non_finite(model: nn.Module, source: str) -> None:
    """Refuse weights that hold NaN or infinity.

    Args:
        model (nn.Module): The loaded network.
        source (str): Where the weights are from.

    Raises:
        ValueError: If there are such weights.
    """
    broken = [k for k, v in model.state_dict().items() if not _is_finite(v)]
    if broken:
        raise ValueError(
            f"The teacher weights '{source}' hold NaN or infinity in "
            f'{broken[:4]}; their training failed. Take other weights for '
            f'{WHERE}.')


def _is_finite(x: Tensor) -> bool:
    return not x.is_floating_point() or bool(x.isfinite().all())
