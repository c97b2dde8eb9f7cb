"""What is tried: cloned layers, preset, weight and layer map."""
import copy
from typing import Dict, List, Optional, Sequence, Union

import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS

SUBCLONE = 'WeightSubcloneHook'
DISTILL = 'BidirectionalDistillHook'
#: Stands for the config's own map, if this is a list.
OWN_MAP = 'own'

Params = Dict[str, Union[str, int, float]]


class Space:
    """The settings that are tried, and what they mean in a config.

    Args:
        cfg (Config): The config; its ``custom_hooks`` must distil.
        presets (Sequence[str]): Presets of the subcloning.
        layer_maps (Sequence[str]): Layer maps of the distillation.

    Raises:
        ValueError: If the config has nothing to tune.
    """

    def __init__(self, cfg: Config, presets: Sequence[str],
                 layer_maps: Sequence[str]) -> None:
        self.distiller = cfg.model.get('distiller')
        self.hooks = [to_dict(h) for h in cfg.get('custom_hooks') or []]
        if self.distiller is None or self._find(DISTILL) is None:
            raise ValueError(
                'The config does not distil: it needs model.distiller and '
                f'{DISTILL} in custom_hooks.')
        self.depth = student_depth(cfg)
        self.presets: List[str] = []
        subclone = self._find(SUBCLONE)
        if subclone is not None and not is_rules(subclone.get('plan')):
            self.presets = with_value(presets, self._own_plan()['preset'])
        own_map = self.distiller.get('layer_map', 'proportional')
        self.own_map = own_map if isinstance(own_map, str) else OWN_MAP
        self.layer_maps = with_value(layer_maps, self.own_map)
        if self.distiller.get('variant') == 'released_code':
            self.layer_maps = []
        self.alphas = self._alphas()

    def _find(self, name: str) -> Optional[dict]:
        """Return the config of a hook."""
        for hook in self.hooks:
            if hook['type'].split('.')[-1] == name:
                return hook
        return None

    def _alphas(self) -> Optional[dict]:
        """Return the range of alpha; None where it has no effect."""
        balance = self.distiller.get('balance', 'constant')
        kind = balance if isinstance(balance, str) else balance.get('kind')
        if kind == 'grad_norm':
            return None
        if self.distiller.get('variant') == 'paper_v1':
            return dict(low=0.05, high=0.95)
        own = self._own_alpha()
        return dict(
            low=min(0.1, own) if own > 0 else 0.1,
            high=max(10., own),
            log=True)

    def suggest(self, trial) -> Params:
        """Choose settings.

        Args:
            trial (optuna.Trial): The trial.

        Returns:
            Dict[str, str | int | float]: The settings.
        """
        params: Params = {}
        if self.presets:
            params['preset'] = trial.suggest_categorical(
                'preset', self.presets)
            if params['preset'] != 'none':
                params['first_n'] = trial.suggest_int('first_n', 0, self.depth)
        if self.alphas is not None:
            params['alpha'] = trial.suggest_float('alpha', **self.alphas)
        if self.layer_maps:
            params['layer_map'] = trial.suggest_categorical(
                'layer_map', self.layer_maps)
        return params

    def own(self) -> Params:
        """Read the config's own settings, which are tried first.

        Returns:
            Dict[str, str | int | float]: The settings that the space has.
        """
        params: Params = {}
        if self.presets:
            plan = self._own_plan()
            params['preset'] = plan['preset']
            if params['preset'] != 'none':
                params['first_n'] = plan['first_n']
        if self.alphas is not None:
            params['alpha'] = min(
                max(self._own_alpha(), self.alphas['low']),
                self.alphas['high'])
        if self.layer_maps:
            params['layer_map'] = self.own_map
        return params

    def _own_alpha(self) -> float:
        """Return the config's alpha."""
        alpha = self.distiller.get('alpha')
        if alpha is None:
            return 0.5 if self.distiller.get('variant') == 'paper_v1' else 1.
        return float(alpha)

    def _own_plan(self) -> dict:
        """Return the config's preset and number of cloned layers."""
        hook = self._find(SUBCLONE)
        plan = hook.get('plan', 'safe')
        plan = plan if isinstance(plan, dict) else dict(preset=plan)
        first_n = plan.get('first_n', hook.get('first_n'))
        if first_n is None:
            first_n = self.depth // 2
        elif first_n in ('all', -1):
            first_n = self.depth
        return dict(preset=plan.get('preset', 'safe'), first_n=first_n)

    def changes(self, params: Params) -> dict:
        """Say what settings change in the config.

        Args:
            params (Dict[str, str | int | float]): The settings.

        Returns:
            dict: Overrides of ``model`` and ``custom_hooks``.
        """
        distiller = {}
        if 'alpha' in params:
            distiller['alpha'] = params['alpha']
        if params.get('layer_map', OWN_MAP) != OWN_MAP:
            distiller['layer_map'] = params['layer_map']
        space = copy.copy(self)
        space.hooks = copy.deepcopy(self.hooks)
        hook = space._find(SUBCLONE)
        if 'preset' in params:
            new = dict(preset=params['preset'])
            if 'first_n' in params:
                new['first_n'] = params['first_n']
            plan = hook.get('plan')
            if isinstance(plan, dict):
                hook['plan'] = {**plan, **new}
            else:
                hook['plan'] = new.pop('preset')
                hook.update(new)
        return dict(model=dict(distiller=distiller), custom_hooks=space.hooks)

    def describe(self) -> dict:
        """Say what the space holds.

        Returns:
            dict: Ranges, as plain values.
        """
        first_n = [0, self.depth] if self.presets else None
        return dict(
            presets=self.presets,
            first_n=first_n,
            alpha=self.alphas,
            layer_maps=self.layer_maps)


def student_depth(cfg: Config) -> int:
    """Count the student's blocks without making its weights.

    Args:
        cfg (Config): The config.

    Returns:
        int: Number of blocks.
    """
    with torch.device('meta'):
        return len(MODELS.build(to_dict(cfg.model.backbone)).block_names)


def with_value(values: Sequence[str], value: str) -> List[str]:
    """Add a value to a list that does not hold it."""
    return list(values) + [value] * (value not in values)


def is_rules(plan) -> bool:
    """Tell whether a plan is a list of rules, which has no preset."""
    return isinstance(plan, (list, tuple))


def to_dict(cfg) -> dict:
    """Turn a part of a config into plain values."""
    return cfg.to_dict() if hasattr(cfg, 'to_dict') else copy.deepcopy(cfg)
