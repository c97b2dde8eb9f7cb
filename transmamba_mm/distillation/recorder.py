import difflib
from typing import Dict, List, Sequence

from torch import Tensor, nn


class LayerRecorder:
    """Record the outputs of modules while the context is open.

    Hooks are put on the modules on entering and removed on leaving, so that
    nothing stays behind in a ``deepcopy``. Leave the context before
    ``backward``: activation checkpointing runs the layers again there.

    Args:
        model (nn.Module): The model; its modules are found by path.
        names (Sequence[str]): Module paths such as 'backbone.layers.3'.

    Raises:
        ValueError: If a path does not exist; the nearest paths are listed.

    Examples:
        >>> with LayerRecorder(model, ['backbone.layers.0']) as records:
        ...     model(images)
        >>> records['backbone.layers.0'].shape
    """

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        self.modules = find_modules(model, names)
        self.records: Dict[str, Tensor] = {}
        self._handles: List = []

    def __enter__(self) -> Dict[str, Tensor]:
        self.records.clear()
        for name, module in self.modules.items():
            self._handles.append(
                module.register_forward_hook(self._keep_output(name)))
        return self.records

    def __exit__(self, *exc_info) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _keep_output(self, name: str):

        def hook(module, inputs, output):
            self.records[name] = output

        return hook


def find_modules(model: nn.Module,
                 names: Sequence[str]) -> Dict[str, nn.Module]:
    """Look modules up by path.

    Args:
        model (nn.Module): The model.
        names (Sequence[str]): Module paths.

    Returns:
        Dict[str, nn.Module]: Path to module.

    Raises:
        ValueError: If a path does not exist; the nearest paths are listed.
    """
    known = dict(model.named_modules())
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=4, cutoff=0.3)
            raise ValueError(
                f"{type(model).__name__} has no layer '{name}'; the nearest "
                f'names are {near}. Check student_layers and teacher_layers '
                'of model.distiller.')
    return {name: known[name] for name in names}
