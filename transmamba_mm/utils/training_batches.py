"""A few batches of the training data, before the training."""
from itertools import islice
from typing import Any, Iterator, Optional

from mmengine.runner import Runner
from torch import nn

from .random_state import get_random_state, set_random_state


def training_batches(model: nn.Module,
                     loader: Optional[dict],
                     count: int,
                     seed: int = 0) -> Iterator[Any]:
    """Load batches and bring them into the form that the model is fed.

    The data loader is built anew, without workers, and the generators are
    put back as they were: the training that follows is the same as if no
    batch had been loaded. In a distributed run each process gets its own
    share. Batch augmentations such as Mixup are left out.

    Args:
        model (nn.Module): Its ``data_preprocessor`` is used.
        loader (dict, optional): Config of the training data loader.
        count (int): How many batches; fewer if there are no more.
        seed (int): Seed of the order of the images. Defaults to 0.

    Yields:
        Tensor | dict: Inputs of one batch.

    Raises:
        ValueError: If there is no config of a data loader.
    """
    if not isinstance(loader, dict):
        raise ValueError(
            "WeightSubcloneHook.importance='activation' needs batches of the "
            f'training data, but `train_dataloader` in the config is '
            f"{loader!r}; give it as a dict, or set importance='magnitude'.")
    loader = dict(loader, num_workers=0, persistent_workers=False)
    loader.pop('prefetch_factor', None)
    state = get_random_state()
    try:
        batches = iter(Runner.build_dataloader(loader, seed=seed))
        for batch in islice(batches, count):
            yield model.data_preprocessor(batch, False)['inputs']
    finally:
        set_random_state(state)
