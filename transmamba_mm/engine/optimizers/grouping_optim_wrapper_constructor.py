from typing import Dict, List

from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from transmamba_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class GroupingOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """MMEngine's constructor, with one group for all equal settings.

    MMEngine makes one group a parameter, so that an optimizer launches its
    kernels once for each, which small models feel.

    Examples:
        >>> optim_wrapper = dict(
        ...     constructor='transmamba_mm.GroupingOptimWrapperConstructor')
    """

    def add_params(self, params: List[dict], module: nn.Module,
                   **kwargs) -> None:
        """Collect parameter groups, those of equal settings joined.

        Args:
            params (List[dict]): Groups so far, added to in place.
            module (nn.Module): Module whose parameters are added.
            **kwargs: As MMEngine's.
        """
        super().add_params(params, module, **kwargs)
        joined: Dict[tuple, dict] = {}
        for group in params:
            own = group['params']
            settings = {k: v for k, v in group.items() if k != 'params'}
            key = tuple(sorted(settings.items()))
            first = joined.setdefault(key, dict(settings, params=[]))
            first['params'] += own if isinstance(own, list) else [own]
        params[:] = joined.values()
