from contextlib import contextmanager
from typing import Any, ContextManager, Dict, Iterator, List, Optional

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves


def is_finite(values: Any) -> bool:
    """Tell whether all floating point tensors in a structure are finite.

    Args:
        values (Any): A tensor, or tensors nested in dicts, lists and tuples;
            everything else is passed over.

    Returns:
        bool: False if there is a NaN or an infinity.
    """
    return all(
        bool(torch.isfinite(leaf).all()) for leaf in tree_leaves(values)
        if isinstance(leaf, Tensor) and leaf.is_floating_point())


@contextmanager
def first_non_finite_module(model: nn.Module) -> Iterator[List[str]]:
    """Record which modules return non-finite values, in execution order.

    A module comes before those that contain it. Each module costs one
    synchronisation, so this is for a single forward.

    Args:
        model (nn.Module): The model to watch; its hooks are gone afterwards.

    Yields:
        List[str]: Grows by one description for each such module.
    """
    found: List[str] = []

    def watch(name: str) -> Any:

        def check(module: nn.Module, args: tuple, output: Any) -> None:
            if not is_finite(output):
                found.append(f'{name!r} ({type(module).__name__})')

        return check

    handles = [
        module.register_forward_hook(watch(name))
        for name, module in model.named_modules() if name
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def explain_non_finite(model: BaseModel, data_batch: Any,
                       context: ContextManager) -> Optional[str]:
    """Run a batch again and say where it stops being finite.

    Neither weights nor their gradients are touched. The caller restores the
    random state and the buffers.

    Args:
        model (BaseModel): The model, without its distributed wrapper.
        data_batch (Any): A batch as the data loader gives it.
        context (ContextManager): Entered for the forward, e.g. the
            ``optim_context`` of the optimizer wrapper.

    Returns:
        Optional[str]: One sentence, or None if all was finite this time.
    """
    for name, param in model.named_parameters():
        if not is_finite(param):
            return (f'The weight {name!r} was not finite before this '
                    'iteration: the checkpoint it came from is bad.')
    with context, first_non_finite_module(model) as modules:
        data = model.data_preprocessor(data_batch, True)
        losses = model._run_forward(data, mode='loss')
        loss = model.parse_losses(losses)[0]
    if not is_finite(data):
        return 'The images themselves are not finite: check the data pipeline.'
    if modules:
        return f'The first layer with a non-finite output is {modules[0]}.'
    terms = [name for name, term in losses.items() if not is_finite(term)]
    if terms:
        return f'All layers are finite; the loss terms {terms} are not.'
    name = _first_non_finite_gradient(model, loss)
    if name is None:
        return None
    return ('The forward is finite; the first weight in backward order with '
            f'a non-finite gradient is {name!r}.')


def _first_non_finite_gradient(model: nn.Module,
                               loss: Tensor) -> Optional[str]:
    """Name the non-finite gradient nearest to the loss."""
    params: Dict[str, Tensor] = {
        name: param
        for name, param in model.named_parameters() if param.requires_grad
    }
    grads = torch.autograd.grad(loss, list(params.values()), allow_unused=True)
    for name, grad in reversed(list(zip(params, grads))):
        if grad is not None and not is_finite(grad):
            return name
    return None
