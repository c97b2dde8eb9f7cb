"""Weigh the distillation against the task by itself."""
from typing import Optional, Union

from mmengine.model import BaseModule

from .grad_norm_balance import GradNormBalance
from .uncertainty_balance import UncertaintyBalance

KINDS = ('constant', 'grad_norm', 'uncertainty')


def build_balance(balance: Union[str, dict],
                  with_logits: bool) -> Optional[BaseModule]:
    """Build what weighs the terms.

    Args:
        balance (str | dict): One of 'constant', 'grad_norm' and
            'uncertainty', or a dict with it as ``kind`` and arguments of the
            class.
        with_logits (bool): Whether there is a term of the logits.

    Returns:
        BaseModule, optional: None leaves the terms as they are.

    Raises:
        ValueError: If the kind is unknown, or does not take the arguments.
    """
    args = dict(kind=balance) if isinstance(balance, str) else dict(balance)
    kind = args.pop('kind', None)
    if kind not in KINDS:
        raise ValueError(f"distiller.balance='{kind}' is unknown; use one of "
                         f'{KINDS}, or a dict with it as `kind`.')
    try:
        if kind == 'grad_norm':
            return GradNormBalance(**args)
        if kind == 'uncertainty':
            return UncertaintyBalance(with_logits, **args)
    except TypeError as error:
        raise ValueError(f'distiller.balance of kind {kind} does not take '
                         f'{sorted(args)}: {error}.') from error
    if args:
        raise ValueError("distiller.balance='constant' takes no arguments, "
                         f'got {sorted(args)}.')
    return None
