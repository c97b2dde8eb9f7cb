from typing import Any

from transmamba_mm.registry import FUNCTIONS


@FUNCTIONS.register_module()
def keep_batch(batch: Any) -> Any:
    """Take a batch as it is, from a dataset that makes whole batches.

    Args:
        batch (Any): What the dataset's ``__getitems__`` returned.

    Returns:
        Any: The same.
    """
    return batch
