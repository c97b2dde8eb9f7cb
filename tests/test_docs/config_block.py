"""Check what a config of the documentation names."""
import ast
import inspect
from pathlib import Path
from typing import Callable, List, Optional, Set

import mmpretrain.registry
import torch
from mmengine.config import Config
from mmengine.registry import Registry
from mmpretrain.utils import register_all_modules

import transmamba_mm.registry
from ..command import ROOT

#: Read by the builders, not by what is built.
OF_BUILDERS = {'type', '_delete_', '_scope_', 'priority'}


def is_config(text: str) -> bool:
    """Tell whether a block only assigns values and calls ``dict``."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return False
    if not all(isinstance(n, (ast.Assign, ast.Expr)) for n in tree.body):
        return False
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call)]
    return all(getattr(c.func, 'id', '') == 'dict' for c in calls)


def check_names(text: str) -> List[str]:
    """Return what is wrong with the parts of a config.

    Every ``dict(type=...)`` must name something registered and give it
    arguments that it takes.
    """
    register_all_modules(init_default_scope=False)
    return [
        problem for call in ast.walk(ast.parse(text))
        if isinstance(call, ast.Call) for problem in check_call(call)
    ]


def check_call(call: ast.Call) -> List[str]:
    values = {k.arg: k.value for k in call.keywords}
    kind = getattr(values.get('type'), 'value', None)
    if not isinstance(kind, str):
        return []
    owner = find(kind)
    if owner is None:
        return [f'nothing is registered as {kind}']
    allowed = arguments(owner)
    if allowed is None:
        return []
    strange = set(values) - allowed - OF_BUILDERS - {None}
    return [f'{kind} takes no {name}' for name in sorted(strange)]


def find(kind: str) -> Optional[Callable]:
    """Look a name up in all registries, as configs of MMPretrain do."""
    own = kind.startswith('transmamba_mm.')
    module = transmamba_mm.registry if own else mmpretrain.registry
    name = kind.split('.')[-1]
    for registry in vars(module).values():
        if isinstance(registry, Registry):
            found = registry.get(name)
            if found is not None:
                return found
    return None


def arguments(owner: Callable) -> Optional[Set[str]]:
    """Collect the arguments of a class and of those that it passes on to.

    Returns:
        Set[str], optional: None where anything is taken.
    """
    names = set()
    chain = owner.__mro__[:-1] if inspect.isclass(owner) else [owner]
    for one in chain:
        function = vars(one).get('__init__') if inspect.isclass(one) else one
        if function is None:
            continue
        parameters = inspect.signature(function).parameters.values()
        names |= {p.name for p in parameters}
        if not any(p.kind == p.VAR_KEYWORD for p in parameters):
            return names
    return None


def build_model(text: str, folder: Path) -> torch.nn.Module:
    """Load a whole config and build its model, without memory for weights.

    Args:
        text (str): The config, whose paths begin at the project's root.
        folder (Path): An empty folder, for the file.

    Returns:
        nn.Module: The model.
    """
    (folder / 'configs').symlink_to(ROOT / 'configs')
    (folder / 'block.py').write_text(text)
    config = Config.fromfile(folder / 'block.py')
    model = config.model
    if 'data_preprocessor' in config:
        model.setdefault('data_preprocessor', config.data_preprocessor)
    with torch.device('meta'):
        return mmpretrain.registry.MODELS.build(model)
