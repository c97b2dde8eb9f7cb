"""A look at the training data that training itself does not notice."""
from contextlib import contextmanager
from typing import Any, Iterable, Iterator, List

import torch
from mmengine.dist import get_dist_info
from torch.utils.data import DataLoader, Dataset

from .random_state import get_random_state, seed_worker, set_random_state


@contextmanager
def sample_batches(loader: DataLoader,
                   num_batches: int,
                   seed: int = 0) -> Iterator[Iterable[dict]]:
    """Open some random batches of a data loader's data set.

    Neither the data loader's order nor any random state is changed, so that
    a training that looked at batches runs like one that did not. Samples are
    loaded in this process.

    Args:
        loader (DataLoader): The training data loader.
        num_batches (int): Batches, of each process; fewer if the data set
            is smaller.
        seed (int): Seed of the choice and of the augmentations. Defaults
            to 0.

    Yields:
        Iterable[dict]: The batches, no image twice, other ones in each
        process.
    """
    rank, world_size = get_dist_info()
    size = getattr(loader.batch_sampler, 'batch_size', loader.batch_size)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(loader.dataset), generator=generator)
    # as many for each process, so that all take part in what they exchange
    share = max(1, len(order) // world_size)
    own = order.roll(-rank)[::world_size][:share].tolist()
    state = get_random_state()
    seed_worker(0, seed=seed, epoch=0, rank=rank)
    try:
        yield (loader.collate_fn(_fetch(loader.dataset, own[k:k + size]))
               for k in range(0, min(share, num_batches * size), size))
    finally:
        set_random_state(state)


def _fetch(dataset: Dataset, indices: List[int]) -> Any:
    """Load samples as a data loader does, all at once where it can."""
    fetch_all = getattr(dataset, '__getitems__', None)
    if fetch_all is not None:
        return fetch_all(indices)
    return [dataset[i] for i in indices]
