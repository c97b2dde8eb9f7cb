"""What weight subcloning fills: a backbone or a language model."""
from contextlib import nullcontext
from typing import ContextManager, Dict, Tuple

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel

from transmamba_mm.models.layers.token_layout import TokenLayout


def find_backbone(model: nn.Module, prefix: str) -> nn.Module:
    """Find the student's backbone or language model.

    Args:
        model (nn.Module): A classifier, or a model with a language model.
        prefix (str): Prefix of the part, such as 'backbone.' or
            'language_model.'.

    Returns:
        nn.Module: The part.

    Raises:
        ValueError: If there is no module of that name.
        TypeError: If it is no backbone of this package and no language
            model.
    """
    where = 'WeightSubcloneHook in custom_hooks'
    modules = dict(model.named_modules())
    backbone = modules.get(prefix.rstrip('.'))
    if backbone is None:
        raise ValueError(
            f"The model has no '{prefix.rstrip('.')}'; set `prefix` of "
            f'{where} to where its backbone is, such as one of '
            f'{[name for name, _ in model.named_children()]}.')
    if not hasattr(backbone, 'token_layout') and not is_language(backbone):
        raise TypeError(
            f'{where} clones into a backbone of this package, such as '
            'transmamba_mm.PlainMamba or transmamba_mm.VisionMamba, but '
            f"'{prefix.rstrip('.')}' is {type(backbone).__name__}; change "
            '`model.backbone`, or `prefix` of the hook.')
    return backbone


def is_language(module: nn.Module) -> bool:
    """Tell whether a module is a language model of the Transformers library.

    Args:
        module (nn.Module): The module.

    Returns:
        bool: Whether it is one, with its head.
    """
    return hasattr(module, 'base_model_prefix') and \
        hasattr(module, 'get_output_embeddings')


def position_layout(backbone: nn.Module) -> TokenLayout:
    """Tell how the positions of a part stand for an image.

    Args:
        backbone (nn.Module): From :func:`find_backbone`.

    Returns:
        TokenLayout: One row for a language model, which has no positions.
    """
    if is_language(backbone):
        return TokenLayout((1, 1))
    return backbone.token_layout(backbone.img_size)


def student_tensors(model: nn.Module, prefix: str) -> Dict[str, Tensor]:
    """Collect the parameters that can be cloned into.

    Args:
        model (nn.Module): A classifier, or a model with a language model.
        prefix (str): Prefix of its backbone or of its language model.

    Returns:
        Dict[str, Tensor]: The backbone's parameters without prefix, and the
        head's as 'head.*'. Of a language model those of its layers as
        'layers.*', whatever the library calls the path to them; tied words
        are there once, and adapters are left out.
    """
    part = dict(model.named_modules()).get(prefix.rstrip('.'))
    inner = f'{part.base_model_prefix}.' if is_language(part) else ''
    out = {}
    for name, param in named_tensors(model, False).items():
        if name.startswith(prefix):
            own = name[len(prefix):].removeprefix(inner)
            if not inner or 'lora_' not in own:
                out[own.replace('.base_layer.', '.')] = param
        elif name.startswith('head.'):
            out[name] = param
    return out


def named_tensors(model: nn.Module, buffers: bool = True) -> Dict[str, Tensor]:
    """Collect parameters and buffers, which are those that the model uses.

    Args:
        model (nn.Module): The model, parts of which may be wrapped for
            sharded training.
        buffers (bool): Whether buffers are among them. Defaults to True.

    Returns:
        Dict[str, Tensor]: By the names that they have without wrappers.
    """
    found = dict(model.named_parameters())
    if buffers:
        found.update(model.named_buffers())
    return {
        k.replace('_fsdp_wrapped_module.', ''): v
        for k, v in found.items()
    }


def whole_parameters(model: nn.Module) -> ContextManager:
    """Open the parameters of a model that several processes share.

    Args:
        model (nn.Module): The runner's model.

    Returns:
        ContextManager: In it they are whole, and what is written stays.
    """
    if isinstance(model, FullyShardedDataParallel):
        return FullyShardedDataParallel.summon_full_params(model)
    return nullcontext()


def copied_tensors(model: nn.Module, parts: Tuple[str, ...],
                   weights: Dict[str, Tensor], key: str) -> Dict[str, Tensor]:
    """Look up the tensors of parts that student and teacher share.

    Args:
        model (nn.Module): The student.
        parts (Tuple[str, ...]): Paths of modules, such as 'vision_tower'.
        weights (Dict[str, Tensor]): The teacher's, under its own names.
        key (str): What names these weights in the config, for messages.

    Returns:
        Dict[str, Tensor]: The student's name to value.

    Raises:
        ValueError: If there is no such part, or a tensor is missing or of
            another shape.
    """
    where = '`copy` of WeightSubcloneHook in custom_hooks'
    own, out = named_tensors(model), {}
    for part in parts:
        names = [n for n in own if n.startswith(f'{part}.')]
        if not names:
            raise ValueError(
                f"The model has no '{part}' with weights; {where} may name "
                f'some of {[name for name, _ in model.named_children()]}.')
        for name in names:
            found = tuple(weights[name].shape) if name in weights else None
            if found != tuple(own[name].shape):
                raise ValueError(
                    f"'{part}' cannot be copied from {key}: '{name}' is "
                    f'{tuple(own[name].shape)} here and {found or "missing"} '
                    f'there. Build it alike, or take it out of {where}.')
            out[name] = weights[name].detach().to(own[name].dtype)
    return out


@torch.no_grad()
def write_tensors(model: nn.Module, new: Dict[str, Tensor],
                  prefix: str) -> None:
    """Write values into a model in place.

    Optimizer and distributed wrapper hold the parameter objects, so these
    must stay.

    Args:
        model (nn.Module): The student.
        new (Dict[str, Tensor]): Values, named as by :func:`student_tensors`
            or as the model names them.
        prefix (str): Prefix of the backbone.
    """
    tensors = {**named_tensors(model), **student_tensors(model, prefix)}
    for name, value in new.items():
        tensors[name].copy_(value)
