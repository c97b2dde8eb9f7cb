"""Take weights out of what a checkpoint file holds."""
from typing import Any, Dict

from torch import Tensor


def unwrap_state_dict(content: Any) -> Dict[str, Tensor]:
    """Take the weights out of what a checkpoint file holds.

    With MMEngine's EMA hook, 'state_dict' holds the averaged weights: the
    hook exchanges them when it saves.

    Args:
        content (Any): What the file holds: a dict of tensors, or a dict with
            one under 'state_dict' or 'model'.

    Returns:
        Dict[str, Tensor]: The tensors by name; empty if there is none.
    """
    for key in ('state_dict', 'model'):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict):
        return {}
    return {k: v for k, v in content.items() if isinstance(v, Tensor)}
