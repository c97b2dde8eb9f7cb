"""The swap of the README in MMPretrain's own configs."""
import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS

SWAP = '''
_base_ = ['mmpretrain::{base}']
model = dict(
    backbone=dict(
        _delete_=True, type='transmamba_mm.{kind}', arch='{arch}'{out}),
    {neck}head=dict(in_channels={width}))
'''
CONFIGS = [
    'deit/deit-small_4xb256_in1k.py',
    'swin_transformer/swin-tiny_16xb64_in1k.py',
    'resnet/resnet50_8xb32_in1k.py',
]


@pytest.mark.parametrize('base', CONFIGS)
@pytest.mark.parametrize('kind, arch, width', [
    ('PlainMamba', 'tiny', 192),
    ('VideoMamba', 'tiny', 192),
    ('VisionMamba', 'tiny', 192),
    ('VMamba', 's1l8-t', 768),
])
@pytest.mark.parametrize('pooled', [True, False])
def test_backbone_swaps_into_a_config(tmp_path, base, kind, arch, width,
                                      pooled):
    """Pooled outputs without a neck, or feature maps with pooling."""
    if not pooled and base.startswith('deit'):
        pytest.skip('DeiT has no pooling neck')
    out = '' if pooled else ", out_type='featmap'"
    path = tmp_path / 'swap.py'
    path.write_text(
        SWAP.format(
            base=base,
            kind=kind,
            arch=arch,
            out=out,
            width=width,
            neck='neck=None, ' if pooled else ''))
    cfg = Config.fromfile(str(path))
    cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    model = MODELS.build(cfg.model).eval()
    with torch.no_grad():
        assert model(torch.randn(1, 3, 64, 64)).shape == (1, 1000)


def test_swap_without_scope_needs_no_import(tmp_path):
    """The prefix alone makes MMEngine find the plugin."""
    import subprocess
    import sys
    path = tmp_path / 'swap.py'
    path.write_text(
        SWAP.format(
            base=CONFIGS[0],
            kind='PlainMamba',
            arch='tiny',
            out='',
            width=192,
            neck='neck=None, '))
    code = ('import transmamba_mm.compat\n'
            'import sys\n'
            'from mmengine.config import Config\n'
            'from mmengine.registry import init_default_scope\n'
            'from mmpretrain.registry import MODELS\n'
            f'cfg = Config.fromfile({str(path)!r})\n'
            'init_default_scope("mmpretrain")\n'
            'print(type(MODELS.build(cfg.model).backbone).__name__)')
    result = subprocess.run([sys.executable, '-c', code],
                            capture_output=True,
                            text=True)
    assert 'PlainMamba' in result.stdout, result.stderr
