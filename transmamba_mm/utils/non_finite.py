"""Find out where NaN or infinity comes from."""
from contextlib import contextmanager
from dataclasses import dataclass
from typing import (Any, Callable, ContextManager, Dict, Iterator, List,
                    Optional, Tuple)

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from transmamba_mm.models.layers.direction_tap import DirectionTap


def is_finite(values: Any) -> bool:
    """Tell whether all floating point tensors in a structure are finite.

    Args:
        values (Any): A tensor, or tensors nested in dicts, lists and tuples;
            everything else is passed over.

    Returns:
        bool: False if there is a NaN or an infinity.
    """
    return all(bool(torch.isfinite(t).all()) for t in _float_tensors(values))


def _float_tensors(values: Any) -> List[Tensor]:
    return [
        leaf for leaf in tree_leaves(values)
        if isinstance(leaf, Tensor) and leaf.is_floating_point()
    ]


def describe_range(values: Any) -> str:
    """Say what is in a tensor that is not finite.

    Args:
        values (Any): A tensor, or a structure whose first non-finite tensor
            is described, or its first one if all are finite.

    Returns:
        str: Type, shape, number of NaN and infinities, and the range of the
        finite values; 'no tensor' if there is none.
    """
    tensors = _float_tensors(values)
    if not tensors:
        return 'no tensor'
    tensor = next((t for t in tensors if not is_finite(t)), tensors[0])
    text = f'{str(tensor.dtype)[len("torch."):]} {tuple(tensor.shape)}'
    finite = tensor.detach()[torch.isfinite(tensor)].float()
    nans = int(torch.isnan(tensor).sum())
    infinite = tensor.numel() - len(finite) - nans
    if nans or infinite:
        text += f', {nans} NaN and {infinite} infinite'
    if not len(finite):
        return f'{text}, none finite'
    return (f'{text}, finite values from {finite.min().item():.4g} to '
            f'{finite.max().item():.4g}')


@dataclass
class Finding:
    """A module with a non-finite output.

    Args:
        name (str): Path of the module.
        kind (str): Its class.
        output (str): Range of its output.
        input (str): Range of its input.
        input_is_finite (bool): Whether its input was finite.
        before (str): The last module before it with a finite output, and the
            range of that; empty if there is none.
        directions (Tuple[int, ...]): Of a direction tap, the directions that
            are not finite, by their index. Defaults to none.
        num_directions (int): Of a direction tap, how many it saw. Defaults to
            0.
    """
    name: str
    kind: str
    output: str
    input: str
    input_is_finite: bool
    before: str = ''
    directions: Tuple[int, ...] = ()
    num_directions: int = 0


@contextmanager
def first_non_finite_module(model: nn.Module) -> Iterator[List[Finding]]:
    """Record which modules return non-finite values, in execution order.

    A module comes before those that contain it. Each module costs one
    synchronisation, and direction taps make their blocks compute each
    direction by itself, so this is for a single forward.

    Args:
        model (nn.Module): The model to watch; its hooks are gone afterwards.

    Yields:
        List[Finding]: Grows by one entry for each such module.
    """
    found: List[Finding] = []
    last: List[Tuple[str, Any]] = []

    def watch(name: str) -> Callable:

        def check(module: nn.Module, args: tuple, output: Any) -> None:
            if is_finite(output):
                last[:] = [(name, output)]
                return
            finding = _examine(name, module, args, output)
            if last and not found:
                where, seen = last[0]
                finding.before = f'{where!r}: {describe_range(seen)}'
            found.append(finding)

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


def _examine(name: str, module: nn.Module, args: tuple,
             output: Any) -> Finding:
    finding = Finding(name,
                      type(module).__name__, describe_range(output),
                      describe_range(args), is_finite(args))
    if isinstance(module, DirectionTap):
        finding.num_directions = len(output)
        finding.directions = tuple(i for i, one in enumerate(output)
                                   if not is_finite(one))
    return finding


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
        Optional[str]: What was found, or None if all was finite this time.
    """
    for name, param in model.named_parameters():
        if not is_finite(param):
            return (f'The weight {name!r} was not finite before this '
                    f'iteration ({describe_range(param)}): the checkpoint it '
                    'came from is bad.')
    with context, first_non_finite_module(model) as modules:
        data = model.data_preprocessor(data_batch, True)
        losses = model._run_forward(data, mode='loss')
        loss = model.parse_losses(losses)[0]
    if not is_finite(data):
        return (f'The images themselves are not finite '
                f'({describe_range(data)}): check the data pipeline.')
    if modules:
        return _tell_first(modules, model)
    terms = {
        name: describe_range(term)
        for name, term in losses.items() if not is_finite(term)
    }
    if terms:
        return (f'All layers are finite; the loss terms {list(terms)} are not '
                f'({", ".join(terms.values())}).')
    found = _first_non_finite_gradient(model, loss)
    if found is None:
        return None
    return ('The forward is finite; the first weight in backward order with '
            f'a non-finite gradient is {found[0]!r} '
            f'({describe_range(found[1])}).')


def _tell_first(found: List[Finding], model: nn.Module) -> str:
    """Describe the first module, and the direction that spoiled it."""
    first = found[0]
    text = (f'The first layer with a non-finite output is {first.name!r} '
            f'({first.kind}): {first.output}; its input: {first.input}.')
    if not first.input_is_finite:
        text += (' The input came from an operation that is no layer, such as '
                 'the scan.')
    if first.before:
        text += f' The last finite one was {first.before}.'
    for tap in found:
        block = tap.name.rpartition('.')[0]
        if tap.num_directions and first.name.startswith(f'{block}.'):
            names = _direction_names(model, block, tap.num_directions)
            bad = [names[i] for i in tap.directions]
            return f'{text} Scan directions of {block!r} with it: {bad}.'
    return text


def _direction_names(model: nn.Module, block: str, count: int) -> List[str]:
    """Look up what the backbone around a block calls its directions."""
    for name, module in model.named_modules():
        names = getattr(module, 'direction_names', ())
        if len(names) == count and block.startswith(f'{name}.' * bool(name)):
            return list(names)
    return [str(i) for i in range(count)]


def _first_non_finite_gradient(model: nn.Module,
                               loss: Tensor) -> Optional[Tuple[str, Tensor]]:
    """Find the non-finite gradient nearest to the loss."""
    params: Dict[str, Tensor] = {
        name: param
        for name, param in model.named_parameters() if param.requires_grad
    }
    grads = torch.autograd.grad(loss, list(params.values()), allow_unused=True)
    for name, grad in reversed(list(zip(params, grads))):
        if grad is not None and not is_finite(grad):
            return name, grad
    return None


@torch.compiler.disable
def tie_gradients_to_loss(module: nn.Module, args: tuple, losses: Any) -> None:
    """Make all gradients NaN if the loss is not finite; a forward hook.

    So that a term without a gradient, such as a constant that overflowed,
    does not go unnoticed. As gradients, the news reach all processes with the
    next reduction. A finite loss changes no gradient. It costs a few
    operations on scalars and no synchronisation.

    Args:
        module (nn.Module): Not used.
        args (tuple): Not used.
        losses (Any): Losses in a dict, as a model returns them in the mode
            'loss'; anything else is passed over.
    """
    if not isinstance(losses, dict) or not torch.is_grad_enabled():
        return
    terms = [
        t for name, value in losses.items() if 'loss' in name
        for t in _float_tensors(value)
    ]
    tied = [t for t in terms if t.requires_grad]
    if not tied:
        return
    # NaN if a term is not finite
    zero = 0 * sum(t.detach().float().sum() for t in terms)
    for term in tied:
        term.register_hook(lambda grad: grad + zero.to(grad.dtype))
