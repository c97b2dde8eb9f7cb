"""Keep a student as it is while something beside it learns."""
from contextlib import contextmanager
from typing import Iterable, Iterator, List

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer


@contextmanager
def steady_mode(model: nn.Module) -> Iterator[None]:
    """Run a model in training as if nothing were random and nothing kept.

    Dropout and stochastic depth are off. Normalisations over a batch use the
    batch, as they will in training, but keep no running statistics.

    Args:
        model (nn.Module): The model; afterwards each module is in the mode it
            was in.

    Yields:
        None: Nothing.
    """
    modes = [(m, m.training) for m in model.modules()]
    norms = make_steady(model)
    try:
        yield
    finally:
        release(norms)
        for module, mode in modes:
            module.training = mode


def make_steady(model: nn.Module) -> List[nn.Module]:
    """Bring a model into the mode of :func:`steady_mode`.

    Args:
        model (nn.Module): The model.

    Returns:
        List[nn.Module]: Normalisations to give to :func:`release`.
    """
    model.train()
    norms = [
        m for m in model.modules()
        if isinstance(m, _BatchNorm) and m.training and m.track_running_stats
    ]
    model.eval()
    for norm in norms:
        norm.training = True
        norm.track_running_stats = False
    return norms


def release(norms: Iterable[nn.Module]) -> None:
    """Let normalisations keep running statistics again.

    Args:
        norms (Iterable[nn.Module]): What :func:`make_steady` returned.
    """
    for norm in norms:
        norm.track_running_stats = True


class FrozenStudent:
    """A student in training whose parameters and statistics stay.

    Distributed training wants a gradient of every parameter, so the
    gradients of the frozen ones, which are 0, are dropped right before the
    optimizer's step: no weight decay, no momentum.

    Args:
        model (nn.Module): The model, unwrapped.
        learning (nn.Module): The part of it that learns.
        optimizers (Iterable[Optimizer]): Optimizers of the model.
    """

    def __init__(self, model: nn.Module, learning: nn.Module,
                 optimizers: Iterable[Optimizer]) -> None:
        self.model = model
        self.learning = learning
        own = set(map(id, learning.parameters()))
        self.params = [p for p in model.parameters() if id(p) not in own]
        self.norms: List[nn.Module] = []
        self.handles = [
            optimizer.register_step_pre_hook(self._drop_gradients)
            for optimizer in optimizers
        ]

    def hold(self) -> None:
        """Take the model out of the training mode it was put into."""
        if self.model.training:
            release(self.norms)
            self.norms = make_steady(self.model)
            self.learning.train()

    def close(self) -> None:
        """Let the student learn again."""
        release(self.norms)
        for handle in self.handles:
            handle.remove()
        self.model.train()

    def _drop_gradients(self, *args) -> None:
        for param in self.params:
            param.grad = None
