"""Questions to MMEngine's runner."""
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn


def is_fresh_start(runner: Runner) -> bool:
    """Tell whether the model holds its own initialisation.

    Asked from ``before_train`` on. True as well for ``--resume`` when no
    checkpoint was found. This is the only place that reads the runner's
    private attributes.

    Args:
        runner (Runner): The runner.

    Returns:
        bool: False if weights were loaded or a run was resumed.
    """
    return not runner._has_loaded


def unwrap(model: nn.Module) -> nn.Module:
    """Take a model out of its distributed wrapper.

    Args:
        model (nn.Module): A model, wrapped or not.

    Returns:
        nn.Module: The model itself.
    """
    return model.module if is_model_wrapper(model) else model
