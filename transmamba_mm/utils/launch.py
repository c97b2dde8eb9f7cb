"""What the tools do before a run: read the config, start processes."""
import ast
import os
import os.path as osp
import re
from typing import List

import torch
import torch.distributed as dist
from mmengine.config import Config


def use_gloo_without_card(cfg: Config) -> None:
    """Let processes that torchrun has started train or test on CPUs.

    MMEngine asks for a card there, whatever the back end, and hands its
    number to the model wrapper. On a machine with a card, or with another
    launcher, nothing is changed.

    Args:
        cfg (Config): The runner's config; ``model_wrapper_cfg`` is set unless
            it is there.
    """
    if cfg.get('launcher') != 'pytorch' or torch.cuda.is_available():
        return
    dist.init_process_group('gloo')
    cfg.setdefault(
        'model_wrapper_cfg',
        dict(
            type='MMDistributedDataParallel',
            device_ids=None,
            broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False)))


def load_config(filename: str) -> Config:
    """Read a config file, as ``Config.fromfile``.

    MMEngine puts the values of environment variables, such as
    ``{{$TEACHER:default}}``, into the text of the file, which is Python: a
    value with a quote would end in a ``SyntaxError``, or even be run. Such a
    value is refused.

    Args:
        filename (str): The config file.

    Returns:
        Config: The config.

    Raises:
        ValueError: If the value of a variable cannot be put into a config.
    """
    for name in environment_names(filename):
        value = os.environ.get(name, '')
        bad = sorted(set(value) & set('\'"\\\n'))
        if bad:
            raise ValueError(
                f'The environment variable {name} is {value!r}, which cannot '
                f"be put into '{filename}' because of {' '.join(bad)!r}: use "
                'a path without quotes and backslashes (rename the file, or '
                'make a link to it).')
    return Config.fromfile(filename)


def environment_names(filename: str) -> List[str]:
    """List the environment variables that a config asks for.

    Args:
        filename (str): A config file.

    Returns:
        List[str]: Names in this file and in those that it builds on; files
        of other packages and those that cannot be read are passed over.
    """
    if not osp.isfile(filename):
        return []
    with open(filename, encoding='utf-8') as file:
        text = file.read()
    names = re.findall(r'\{\{[\'"]?\s*\$(\w+)\s*:', text)
    for base in _bases(text):
        if '::' not in base:
            path = osp.join(osp.dirname(filename), base)
            names += environment_names(path)
    return list(dict.fromkeys(names))


def _bases(text: str) -> List[str]:
    """Read ``_base_`` without running the config."""
    try:
        nodes = ast.parse(text).body
        values = [
            ast.literal_eval(node.value) for node in nodes
            if isinstance(node, ast.Assign)
            and getattr(node.targets[0], 'id', None) == '_base_'
        ]
    except (SyntaxError, ValueError):
        return []
    found = values[-1] if values else []
    return [found] if isinstance(found, str) else list(found)
