import random
from typing import Any, Callable, Dict, Optional

import numpy as np
import torch


def get_random_state() -> Dict[str, Any]:
    """Read the state of every generator that training draws from.

    Returns:
        Dict[str, Any]: ``python``, ``numpy`` and ``torch`` states and, once
        CUDA is in use, ``cuda`` (that of the current device only).
    """
    state = dict(
        python=random.getstate(),
        numpy=np.random.get_state(),
        torch=torch.get_rng_state())
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state['cuda'] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: Dict[str, Any]) -> None:
    """Put a state of :func:`get_random_state` back.

    Args:
        state (Dict[str, Any]): The state; a ``cuda`` entry is left out on a
            machine without CUDA.
    """
    random.setstate(state['python'])
    np.random.set_state(state['numpy'])
    torch.set_rng_state(state['torch'].cpu())
    if 'cuda' in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'].cpu())


def seed_worker(worker_id: int,
                seed: int,
                epoch: int,
                rank: int,
                init_fn: Optional[Callable[[int], None]] = None) -> None:
    """Seed a data loading worker by (seed, epoch, rank, worker).

    MMEngine's own ``worker_init_fn`` gives a worker the same seed in each
    epoch, so that each epoch draws the same augmentations. With this one the
    epochs differ, and an epoch is the same again after a resume.

    Args:
        worker_id (int): Index of the worker.
        seed (int): Seed of the run.
        epoch (int): Epoch that the worker loads.
        rank (int): Rank of the process that the worker belongs to.
        init_fn (Callable, optional): Called first, with ``worker_id``.
            Defaults to None.
    """
    if init_fn is not None:
        init_fn(worker_id)
    sequence = np.random.SeedSequence([seed, epoch, rank, worker_id])
    python_seed, numpy_seed, torch_seed = sequence.generate_state(3).tolist()
    random.seed(python_seed)
    np.random.seed(numpy_seed)
    torch.manual_seed(torch_seed)
