"""A look at the data leaves no trace."""
import random
from unittest import mock

import torch
from torch.utils.data import DataLoader, Dataset

from transmamba_mm.utils import sample_batches as module
from transmamba_mm.utils.sample_batches import sample_batches


class Numbers(Dataset):
    """Index and two random numbers."""

    def __len__(self):
        return 11

    def __getitem__(self, i):
        return dict(index=i, noise=random.random() + torch.rand(()).item())


def look(count, **kwargs):
    loader = DataLoader(Numbers(), batch_size=2, shuffle=True)
    with sample_batches(loader, count, **kwargs) as batches:
        return [(b['index'].tolist(), b['noise'].tolist()) for b in batches]


def test_batches_are_random_once_and_always_the_same():
    first = look(3)
    random.seed(5)
    assert look(3) == first
    indices = sum((i for i, _ in first), [])
    assert len(set(indices)) == 6 and indices != sorted(indices)
    assert look(3, seed=1) != first


class Tens(Numbers):
    """Whole batches at once."""

    def __getitems__(self, indices):
        return dict(index=torch.tensor(indices) * 10)


def test_a_data_set_that_makes_batches_is_asked_for_them():
    loader = DataLoader(Tens(), batch_size=4, collate_fn=lambda batch: batch)
    with sample_batches(loader, 2) as batches:
        seen = [b['index'] for b in batches]
    assert [len(b) for b in seen] == [4, 4]
    assert (torch.cat(seen) % 10 == 0).all()


def test_a_small_data_set_gives_what_it_has():
    indices = sum((i for i, _ in look(99)), [])
    assert sorted(indices) == list(range(11))


def test_training_goes_on_as_if_nobody_had_looked():
    torch.manual_seed(1)
    random.seed(1)
    want = torch.rand(1), random.random()
    torch.manual_seed(1)
    random.seed(1)
    look(2)
    assert (torch.rand(1), random.random()) == want


def test_processes_share_the_data():
    seen = []
    for rank in range(2):
        with mock.patch.object(module, 'get_dist_info', lambda: (rank, 2)):
            seen.append(sum((i for i, _ in look(99)), []))
    assert len(seen[0]) == len(seen[1]) == 5
    assert not set(seen[0]) & set(seen[1])
