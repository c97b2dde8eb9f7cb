"""A few batches of the training data, before the training."""
from typing import Any, Iterator, Optional

from mmengine.runner import Runner
from torch import nn

from .random_state import get_random_state, set_random_state
from .sample_batches import sample_batches


def training_batches(model: nn.Module,
                     loader: Optional[dict],
                     count: int,
                     seed: int = 0) -> Iterator[Any]:
    """Load batches and bring them into the form that the model is fed.

    The data set is built anew, and looked at by :func:`sample_batches`: the
    training that follows is the same as if no batch had been loaded. Batch
    augmentations such as Mixup are left out.

    Args:
        model (nn.Module): Its ``data_preprocessor`` is used.
        loader (dict, optional): Config of the training data loader.
        count (int): How many batches; fewer if there are no more.
        seed (int): Seed of the choice of the images and of their
            augmentations. Defaults to 0.

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
    built = Runner.build_dataloader(loader, seed=seed)
    set_random_state(state)
    with sample_batches(built, count, seed) as batches:
        for batch in batches:
            yield model.data_preprocessor(batch, False)['inputs']
