"""Run a batch that was saved because it was not finite."""
from contextlib import nullcontext
from typing import Any, ContextManager, Dict, Optional

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint
from mmpretrain.registry import MODELS
from torch import nn

from .non_finite import explain_non_finite
from .random_state import set_random_state
from .saved_batch import load_batch


def replay_batch(cfg: Config,
                 path: str,
                 checkpoint: Optional[str] = None,
                 device: str = 'cpu') -> Optional[str]:
    """Run a batch of the :class:`NonFiniteGuardHook` again.

    The model is in training mode, with the weights, random numbers, precision
    and distillation of the moment. On another kind of device, random numbers
    that are drawn there differ.

    Args:
        cfg (Config): Config of the training.
        path (str): File of the batch.
        checkpoint (str, optional): Weights in place of those in the file.
            Defaults to None.
        device (str): Where it runs. Defaults to 'cpu'.

    Returns:
        Optional[str]: Where it stops being finite; None if it does not.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no saved batch, or holds no weights and no
            ``checkpoint`` is given.

    Examples:
        >>> cfg = Config.fromfile('work_dirs/x/config.py')
        >>> replay_batch(cfg, 'work_dirs/x/non_finite/iter_120.pth')
    """
    saved = load_batch(path)
    if checkpoint is None and 'state_dict' not in saved:
        raise ValueError(
            f"'{path}' holds no weights, which were too large for it: name a "
            'checkpoint of the run (--checkpoint), the last one before '
            f"iteration {saved['iteration']}.")
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    cfg.model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    model = MODELS.build(cfg.model).to(device)
    if checkpoint is None:
        model.load_state_dict(saved['state_dict'])
    else:
        load_checkpoint(model, checkpoint, map_location='cpu')
    teacher = _lend_teacher(model, cfg, saved['distiller'])
    set_random_state(saved['random_state'])
    reason = explain_non_finite(model.train(), saved['batch'],
                                _precision(saved['autocast'], device))
    del teacher  # the model has only borrowed it
    return reason


def describe_state(model: nn.Module) -> Optional[Dict[str, Any]]:
    """Note the stage of a distillation, for :func:`replay_batch`.

    Args:
        model (nn.Module): The model.

    Returns:
        Dict[str, Any], optional: Plain values, or None without a distiller.
    """
    distiller = getattr(model, 'distiller', None)
    if distiller is None:
        return None
    return dict(
        progress=float(distiller.progress),
        calibrating=bool(distiller.calibrating),
        layer_map=list(distiller.layer_map))


def _lend_teacher(model: nn.Module, cfg: Config,
                  state: Optional[dict]) -> Optional[nn.Module]:
    """Put the distillation into its old state; build a teacher if needed."""
    if state is None or getattr(model, 'distiller', None) is None:
        return None
    distiller = model.distiller
    distiller.progress = state['progress']
    distiller.calibrating = state['calibrating']
    distiller.layer_map = tuple(state['layer_map'])
    if distiller.progress == 0:
        return None
    hooks = [h for h in cfg.get('custom_hooks') or [] if 'teacher' in h]
    hooks = [h for h in hooks if 'Distill' in str(h.get('type'))]
    if not hooks:
        raise ValueError('The batch was distilled, but the config has no '
                         'BidirectionalDistillHook in custom_hooks; give the '
                         'config of that training.')
    teacher = MODELS.build(hooks[0]['teacher'])
    teacher.to(next(model.parameters()).device)
    print_log(f'Teacher: {teacher.describe()}.', logger='current')
    model.attach_teacher(teacher)
    return teacher


def _precision(autocast: Optional[str], device: str) -> ContextManager:
    """Return the context of mixed precision, if there was one."""
    if autocast is None:
        return nullcontext()
    dtype = None if autocast == 'default' else getattr(torch, autocast)
    return torch.autocast(torch.device(device).type, dtype=dtype)
