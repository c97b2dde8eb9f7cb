"""Importance of a teacher's units by how strongly they act on images."""
import re
from contextlib import ExitStack
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional

import torch
from mmengine.dist import all_reduce, broadcast
from torch import Tensor, nn

#: Units that feed a projection: its canonical name, and theirs.
_FEEDERS = {'o': 'inner', 'fc2': 'mlp', 'down': 'mlp'}


def activation_scores(
        teacher: nn.Module,
        batches: Iterable[Any],
        source: Optional[Mapping[str, Tensor]] = None) -> Dict[str, Tensor]:
    """Score a teacher's units by their mean absolute activation.

    Channels of the residual stream are read after each layer, and every
    layer counts alike; attention channels and hidden units before the
    projection that they feed. In a distributed run every process brings its
    own batches and all get the same scores. Source: our choice, beside the
    paper's importance.

    Args:
        teacher (FrozenTeacher): The teacher; only its ``record``,
            ``layer_name``, ``depth`` and ``model`` are used.
        batches (Iterable): Inputs of ``teacher.record``: images
            (B, C, H, W), clips (B, C, T, H, W), or a dict of token tensors,
            whose 'attention_mask', if any, says which tokens count.
        source (Mapping[str, Tensor], optional): The teacher's weights under
            canonical names. They tell which modules of the teacher are fed
            by attention channels and hidden units, as the weights of these
            agree; units that feed no known module have no score. None
            scores the residual stream alone. Defaults to None.

    Returns:
        Dict[str, Tensor]: Scores (n,) in float64 on the CPU, of mean 1:
        'residual', and 'layers.i.inner' and 'layers.i.mlp' where found.

    Raises:
        ValueError: If there is no batch, or the teacher's activations are
            not finite.
    """
    names = [teacher.layer_name.format(i) for i in range(teacher.depth)]
    modules = {} if source is None else find_fed_modules(teacher.model, source)
    sums: Dict[str, Tensor] = {}
    for inputs in batches:
        mask = inputs.get('attention_mask') if isinstance(inputs,
                                                          Mapping) else None
        with ExitStack() as stack:
            for key, module in modules.items():
                handle = module.register_forward_pre_hook(
                    _reader(sums, key, mask))
                stack.callback(handle.remove)
            records = teacher.record(inputs, names)
        for name in names:
            output = records[name]
            output = output[0] if isinstance(output, tuple) else output
            _add(sums, name, output, mask)
    if not sums:
        raise ValueError(
            'There is no batch to score the units of the teacher on: set '
            'WeightSubcloneHook.importance_batches to 1 or more, and check '
            'train_dataloader.')
    return _finish(sums, names)


def find_fed_modules(model: nn.Module,
                     source: Mapping[str, Tensor]) -> Dict[str, nn.Module]:
    """Find the modules whose inputs are hidden units, by their weights.

    Args:
        model (nn.Module): The teacher's model, in any library's layout.
        source (Mapping[str, Tensor]): Its weights under canonical names.

    Returns:
        Dict[str, nn.Module]: 'layers.i.inner' or 'layers.i.mlp' to a linear
        layer of the model; those not found are left out.
    """
    by_shape: Dict[tuple, List[nn.Linear]] = {}
    for module in model.modules():
        if isinstance(module, nn.Linear):
            by_shape.setdefault(tuple(module.weight.shape), []).append(module)
    found = {}
    for name in source:
        match = re.fullmatch(r'(layers\.\d+)\.(\w+)\.weight', name)
        if match is None or match[2] not in _FEEDERS:
            continue
        weight = source[name]
        rest = by_shape.get(tuple(weight.shape), [])
        module = next((m for m in rest if _same(m.weight, weight)), None)
        if module is not None:
            rest.remove(module)
            found[f'{match[1]}.{_FEEDERS[match[2]]}'] = module
    return found


def _same(own: Tensor, weight: Tensor) -> bool:
    """Compare at the coarser of both precisions; mostly one row decides."""

    def equal(a: Tensor, b: Tensor) -> bool:
        a, b = a.detach().cpu(), b.detach().cpu()
        coarse = min(a.dtype, b.dtype, key=lambda t: t.itemsize)
        return torch.equal(a.to(coarse), b.to(coarse))

    return equal(own[:1], weight[:1]) and equal(own, weight)


def _reader(sums: Dict[str, Tensor], key: str,
            mask: Optional[Tensor]) -> Callable:
    """Make a hook that adds a module's input to the sums."""

    def hook(module: nn.Module, inputs: tuple) -> None:
        _add(sums, key, inputs[0], mask)

    return hook


@torch.no_grad()
def _add(sums: Dict[str, Tensor], key: str, x: Tensor,
         mask: Optional[Tensor]) -> None:
    """Add |x| over all tokens, and their number as the last entry."""
    x = x.detach().abs()
    if mask is not None and mask.shape == x.shape[:-1]:
        x = x[mask.bool().to(x.device)]
    x = x.reshape(-1, x.shape[-1])
    total = x.sum(0, dtype=torch.float64)
    total = torch.cat([total, total.new_tensor([len(x)])])
    sums[key] = sums[key] + total if key in sums else total


def _finish(sums: Dict[str, Tensor], layers: List[str]) -> Dict[str, Tensor]:
    """Turn sums into scores, the same ones in every process."""
    scores = {}
    for key, total in sums.items():
        all_reduce(total)
        mean = total[:-1] / total[-1]
        if not mean.isfinite().all():
            raise ValueError(
                f"The teacher's activations at '{key}' are not finite; check "
                'WeightSubcloneHook.teacher.')
        broadcast(mean)
        scores[key] = (mean / mean.mean().clamp(min=1e-300)).cpu()
    residual = torch.stack([scores.pop(name) for name in layers]).mean(0)
    return dict(residual=residual, **scores)
