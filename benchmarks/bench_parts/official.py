"""Official implementations, imported from the user's own checkouts.

None of their code is kept here. A checkout is imported as it is; what it
wants from packages of its time (mmcv 1, timm 0.4, causal-conv1d 1.1, an own
copy of mamba-ssm) is answered by the installed ones under the old names. The
scan kernel, causal-conv1d and add + norm are those of the installed mamba-ssm
and causal-conv1d.
"""
import contextlib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Callable, Dict, Iterator

import torch
from mmcv.cnn import build_conv_layer, build_norm_layer
from mmcv.cnn.bricks.transformer import AdaptivePadding, build_dropout
from mmengine.model import BaseModule, ModuleList
from mmengine.model.weight_init import trunc_normal_
from mmengine.utils import to_2tuple
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor, nn

#: Family, folder of its checkout, and where it comes from.
CHECKOUTS = dict(
    vim=('Vim', 'hustvl/Vim'),
    videomamba=('VideoMamba', 'OpenGVLab/VideoMamba'),
    plainmamba=('PlainMamba', 'ChenhongyiYang/PlainMamba'),
    vmamba=('VMamba', 'MzeroMiko/VMamba'))
#: Top names that a checkout may import in a form of its own.
_BORROWED = ('mamba_ssm', 'causal_conv1d_cuda', 'mmcv', 'mmcls', 'fvcore',
             'rope', 'official_model')
_VIM = '{}_patch16_224_bimambav2_final_pool_mean_abs_pos_embed_with_' \
    'midclstok_div2'

Factory = Callable[[int, float], nn.Module]


def build_official(family: str, arch: str, folder: str, side: int,
                   drop_path: float) -> nn.Module:
    """Build an official model with random weights.

    Args:
        family (str): A key of ``CHECKOUTS``.
        arch (str): Name of the size in the official code.
        folder (str): Folder that holds the checkouts under the names that
            ``git clone`` gives them.
        side (int): Side of the images in pixels.
        drop_path (float): Stochastic depth of the last layer.

    Returns:
        nn.Module: Images in, 1000 scores out.

    Raises:
        FileNotFoundError: There is no such checkout.
        Exception: Whatever the checkout raises.
    """
    name, source = CHECKOUTS[family]
    checkout = Path(folder).resolve() / name
    if not checkout.is_dir():
        raise FileNotFoundError(f'there is no {checkout}; get it by git clone '
                                f'https://github.com/{source}')
    with contextlib.suppress(ImportError):
        # while its extension still has its own name
        importlib.import_module('causal_conv1d.cpp_functions')
    with _borrowed_names():
        factory = _LOADERS[family](checkout, arch)
    return factory(side, drop_path)


@contextlib.contextmanager
def _borrowed_names() -> Iterator[None]:
    """Let a checkout define modules, and forget their names afterwards."""

    def take() -> Dict[str, ModuleType]:
        names = [n for n in sys.modules if n.split('.')[0] in _BORROWED]
        return {n: sys.modules.pop(n) for n in names}

    kept, path = take(), list(sys.path)
    try:
        yield
    finally:
        take()
        sys.modules.update(kept)
        sys.path[:] = path


def _define(name: str, path: str = '', **contents) -> ModuleType:
    """Make a module; a package whose files lie under ``path``, if given."""
    module = ModuleType(name)
    module.__path__ = [str(path)] if path else []
    vars(module).update(contents)
    sys.modules[name] = module
    return module


def _load(path: Path) -> ModuleType:
    """Import one file, without the package around it."""
    spec = importlib.util.spec_from_file_location('official_model', path)
    module = importlib.util.module_from_spec(spec)
    sys.modules['official_model'] = module
    spec.loader.exec_module(module)
    return module


def _installed_mamba_ssm() -> None:
    """Make the installed package's parts importable, not its ``__init__``.

    The latter imports language models and with them much that is not needed.
    """
    importlib.import_module('selective_scan_cuda')
    spec = importlib.util.find_spec('mamba_ssm')
    if spec is None:
        raise ImportError('mamba_ssm is not installed')
    _define('mamba_ssm', spec.submodule_search_locations[0])


def _use_fork(folder: Path, norm_name: str) -> None:
    """Put a checkout's mamba-ssm in the place of the installed one."""
    _installed_mamba_ssm()
    norm = importlib.import_module('mamba_ssm.ops.triton.layer_norm')
    for name in [n for n in sys.modules if n.split('.')[0] == 'mamba_ssm']:
        del sys.modules[name]
    _define('mamba_ssm', folder)
    sys.modules[f'mamba_ssm.ops.triton.{norm_name}'] = norm
    # of language models, imported but not used
    _define('mamba_ssm.utils')
    _define('mamba_ssm.utils.generation', GenerationMixin=None)
    _define('mamba_ssm.utils.hf', load_config_hf=None, load_state_dict_hf=None)
    _define_convolution()


def _define_convolution() -> None:
    """Give the old calls of causal-conv1d's extension to the new one."""
    new = importlib.import_module('causal_conv1d.cpp_functions')

    def forward(x, weight, bias, *rest):
        return new.causal_conv1d_fwd_function(x, weight, bias, None, None,
                                              None, rest[-1])

    def backward(x, weight, bias, dout, *rest):
        dx = next((t for t in rest if isinstance(t, Tensor)), None)
        return new.causal_conv1d_bwd_function(x, weight, bias, dout, None,
                                              None, None, dx, False,
                                              rest[-1])[:3]

    _define(
        'causal_conv1d_cuda',
        causal_conv1d_fwd=forward,
        causal_conv1d_bwd=backward)


def _load_vim(checkout: Path, arch: str) -> Factory:
    _use_fork(checkout / 'mamba-1p1p1/mamba_ssm', 'layer_norm')
    sys.path.insert(0, str(checkout / 'vim'))
    module = _load(checkout / 'vim/models_mamba.py')
    build = getattr(module, _VIM.format(arch))
    return lambda side, rate: build(img_size=side, drop_path_rate=rate)


def _load_videomamba(checkout: Path, arch: str) -> Factory:
    _use_fork(checkout / 'mamba/mamba_ssm', 'layernorm')
    module = _load(checkout / 'videomamba/image_sm/models/videomamba.py')
    build = getattr(module, arch)
    return lambda side, rate: build(img_size=side, drop_path_rate=rate)


def _load_vmamba(checkout: Path, arch: str) -> Factory:
    if importlib.util.find_spec('fvcore') is None:
        _define('fvcore')
        names = ('FlopCountAnalysis', 'flop_count_str', 'flop_count',
                 'parameter_count')
        _define('fvcore.nn', **dict.fromkeys(names))
    module = _load(checkout / 'vmamba.py')
    build = getattr(module, arch)

    def factory(side: int, drop_path: float) -> nn.Module:
        # the functions of this file fix the rate at 0.2, as published
        return build()

    return factory


def _load_plainmamba(checkout: Path, arch: str) -> Factory:
    _define_old_mmcv()
    _define_old_mmcls(checkout / 'mmcls')
    _installed_mamba_ssm()
    norm = importlib.import_module('mamba_ssm.ops.triton.layer_norm')
    sys.modules['mamba_ssm.ops.triton.layernorm'] = norm
    module = importlib.import_module(
        'mmcls.plain_mamba_dev.models.plain_mamba.plain_mamba')

    def factory(side: int, drop_path: float) -> nn.Module:
        settings = module.PlainMamba.arch_zoo[arch]['layer_cfgs']['mamba_cfg']
        settings['default_hw_shape'] = (side // 16, side // 16)
        return _Pooled(
            module.PlainMamba(
                img_size=side, arch=arch, drop_path_rate=drop_path))

    return factory


def _define_old_mmcv() -> None:
    """Names of mmcv 1 for what MMEngine and mmcv 2 hold."""
    _define('mmcv')
    _define(
        'mmcv.cnn',
        build_norm_layer=build_norm_layer,
        build_conv_layer=build_conv_layer)
    _define('mmcv.cnn.utils')
    _define('mmcv.cnn.utils.weight_init', trunc_normal_=trunc_normal_)
    _define('mmcv.cnn.bricks')
    _define(
        'mmcv.cnn.bricks.transformer',
        build_dropout=build_dropout,
        AdaptivePadding=AdaptivePadding)
    _define('mmcv.runner')
    _define(
        'mmcv.runner.base_module',
        BaseModule=BaseModule,
        ModuleList=ModuleList)
    _define('mmcv.utils', to_2tuple=to_2tuple)


def _define_old_mmcls(folder: Path) -> None:
    """Names of MMClassification for what MMPretrain holds."""
    registry = SimpleNamespace(register_module=lambda: lambda cls: cls)
    _define('mmcls', folder)
    _define('mmcls.models')
    _define('mmcls.models.builder', BACKBONES=registry)
    _define(
        'mmcls.models.utils',
        resize_pos_embed=resize_pos_embed,
        to_2tuple=to_2tuple)
    _define('mmcls.models.backbones')
    _define('mmcls.models.backbones.base_backbone', BaseBackbone=BaseBackbone)


class _Pooled(nn.Module):
    """PlainMamba with the mean over tokens and a linear head."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.embed_dims, 1000)

    def forward(self, images: Tensor) -> Tensor:
        tokens, _ = self.backbone(images)
        return self.head(tokens.mean(1))


def keep_orders_on(model: nn.Module, device: str) -> bool:
    """Turn PlainMamba's order tables into tensors on a device.

    The official code indexes with Python tuples, which are copied from the
    host in every call, so that no CUDA graph can be recorded.

    Args:
        model (nn.Module): An official model.
        device (str): Where the tables shall live.

    Returns:
        bool: Whether there were such tables.
    """
    names = ('default_permute_order', 'default_permute_order_inverse',
             'default_direction')
    found = False
    for module in model.modules():
        if not hasattr(module, names[0]):
            continue
        found = True
        for name in names:
            tables = tuple(
                torch.as_tensor(t, device=device)
                for t in getattr(module, name))
            setattr(module, name, tables)
    return found


_LOADERS = dict(
    vim=_load_vim,
    videomamba=_load_videomamba,
    plainmamba=_load_plainmamba,
    vmamba=_load_vmamba)
