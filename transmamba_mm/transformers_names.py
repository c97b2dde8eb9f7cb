"""Give ``transformers.modeling_utils`` back the names MMPretrain imports.

MMPretrain's multimodal models import helpers from there that newer releases
of Transformers have moved or dropped (from 4.51 on), and one missing name
stops ``mmpretrain.models`` as a whole, classifiers too. Transformers itself
is not imported here: the names are added when somebody imports it.
"""
import importlib
import importlib.abc
import importlib.util
import sys
from types import ModuleType
from typing import Any, Callable, List, Optional, Set, Tuple

MODULE = 'transformers.modeling_utils'
# name: where it lives now, the first module that has it
MOVED = dict(
    GenerationConfig=('transformers.generation', 'GenerationConfig'),
    GenerationMixin=('transformers.generation', 'GenerationMixin'),
    PretrainedConfig=('transformers', 'PretrainedConfig'),
    apply_chunking_to_forward=('transformers.pytorch_utils',
                               'apply_chunking_to_forward'),
    prune_linear_layer=('transformers.pytorch_utils', 'prune_linear_layer'))


def find_pruneable_heads_and_indices(
        heads: List[int], n_heads: int, head_size: int,
        already_pruned_heads: Set[int]) -> Tuple[Set[int], Any]:
    """Find the channels that stay when attention heads are taken out.

    Transformers 5 has no such function any more.

    Args:
        heads (List[int]): Heads to take out, numbered as in the beginning.
        n_heads (int): Heads that are there now.
        head_size (int): Channels of a head.
        already_pruned_heads (Set[int]): Heads taken out before.

    Returns:
        Tuple[Set[int], LongTensor]: The heads to take out now, and the
        indices of the channels that stay.
    """
    import torch
    heads = set(heads) - already_pruned_heads
    keep = torch.ones(n_heads, head_size, dtype=torch.bool)
    for head in heads:
        keep[head - sum(old < head for old in already_pruned_heads)] = False
    return heads, keep.flatten().nonzero().flatten()


def add_moved_names(module: ModuleType) -> None:
    """Let a module find the names that are gone from it.

    Args:
        module (ModuleType): ``transformers.modeling_utils``. Names that it
            has stay as they are.
    """
    before: Optional[Callable] = getattr(module, '__getattr__', None)

    def find(name: str) -> Any:
        if name in MOVED:
            source, attribute = MOVED[name]
            return getattr(importlib.import_module(source), attribute)
        if name == 'find_pruneable_heads_and_indices':
            return find_pruneable_heads_and_indices
        if before is not None:
            return before(name)
        raise AttributeError(
            f'module {module.__name__!r} has no attribute {name!r}')

    module.__getattr__ = find


class _Finder(importlib.abc.MetaPathFinder):
    """Adds the names when the module is imported."""

    is_asking = False

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != MODULE or self.is_asking:
            return None
        self.is_asking = True  # the other finders, not this one again
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self.is_asking = False
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            # before the module's own code: imports in a circle see them too
            add_moved_names(module)
            execute(module)
            if module.__getattr__.__module__ != __name__:
                add_moved_names(module)

        spec.loader.exec_module = exec_module
        return spec


def alias_moved_names() -> None:
    """Add the names, at once or when the module will be imported."""
    if MODULE in sys.modules:
        add_moved_names(sys.modules[MODULE])
    elif not any(isinstance(f, _Finder) for f in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
