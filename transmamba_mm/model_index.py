"""Make the plugin's models known to MMPretrain by name."""
import os.path as osp
from typing import Optional

from mmpretrain.apis.model import ModelHub


def find_root() -> Optional[str]:
    """Find the folder that holds ``model-index.yml`` and ``configs``.

    Returns:
        str, optional: The working tree, or ``.mim`` of an installed package.
        The tree comes first: a build may have left copies in its ``.mim``.
    """
    package = osp.dirname(osp.abspath(__file__))
    for root in (osp.dirname(package), osp.join(package, '.mim')):
        if osp.exists(osp.join(root, 'model-index.yml')):
            return root
    return None


def register_models() -> None:
    """Register the model index once.

    After it, ``mmpretrain.list_models('*transmamba*')`` and
    ``mmpretrain.get_model(NAME)`` know the recipes. A second call does
    nothing.
    """
    root = find_root()
    if root is None or ModelHub.has('vim-tiny_8xb128-300e_in1k'):
        return
    ModelHub.register_model_index(
        osp.join(root, 'model-index.yml'), config_prefix=root)
