from typing import Any

from transmamba_mm.registry import FUNCTIONS


@FUNCTIONS.register_module()
def keep_batch(batch: Any) -> Any:
    """Take a batch as it is, from a dataset that makes whole batches.

    Args:
        batch (Any): What the dataset's ``__getitems__`` returned.

    Returns:
        Any: The same.

    Raises:
        TypeError: If the dataset has made single samples.
    """
    if isinstance(batch, list):
        raise TypeError(
            'keep_batch is for datasets that make whole batches, such as '
            'CachedImageFolder, alone or in a ClassBalancedSubset; remove '
            "`collate_fn` from the dataloader, or take its dataset out of "
            'other wrappers.')
    return batch
