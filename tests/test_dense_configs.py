"""The configs for MMDetection and MMSegmentation, without the two."""
import ast

import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS
from torchvision.ops import FeaturePyramidNetwork

from .command import ROOT

CONFIGS = sorted((ROOT / 'configs/dense').glob('*.py'))


def read(path):
    """Parse all but the base, which only the toolbox has."""
    tree = ast.parse(path.read_text())
    base = next(node for node in tree.body if isinstance(node, ast.Assign)
                and node.targets[0].id == '_base_')  # yapf: disable
    tree.body.remove(base)
    return ast.literal_eval(base.value), Config.fromstring(
        ast.unparse(tree), '.py')


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.stem)
def test_config_parses_and_its_maps_fit_the_next_part(path, monkeypatch):
    monkeypatch.setenv('CHECKPOINT', '/a/vmamba.pth')
    bases, cfg = read(path)
    assert all(b.startswith(('mmdet::', 'mmseg::')) for b in bases)
    assert 'not run' in path.read_text()
    assert cfg.custom_imports.imports == ['transmamba_mm']
    backbone = cfg.model.backbone
    assert backbone.pop('_delete_')
    assert backbone.init_cfg.checkpoint == '/a/vmamba.pth'
    model = MODELS.build(backbone).eval()
    with torch.no_grad():
        feats = model(torch.zeros(1, 3, 64, 96))
    widths = [f.shape[1] for f in feats]
    following = cfg.model.get('neck') or cfg.model.decode_head
    assert following.in_channels == widths
    if 'auxiliary_head' in cfg.model:
        assert cfg.model.auxiliary_head.in_channels == widths[2]
    sides = [tuple(f.shape[2:]) for f in feats]
    assert sides == [(16, 24), (8, 12), (4, 6), (2, 3)]
    neck = FeaturePyramidNetwork(widths, 32)
    outs = neck({str(i): f for i, f in enumerate(feats)})
    assert [tuple(o.shape) for o in outs.values()] == [(1, 32, *side)
                                                       for side in sides]


def test_both_toolboxes_have_one():
    assert {read(p)[0][0].split(':')[0] for p in CONFIGS} == {'mmdet', 'mmseg'}


def test_a_classifiers_file_starts_the_dense_backbone(tmp_path):
    arch = dict(embed_dims=8, depths=(1, 1))
    classifier = torch.nn.ModuleDict(
        dict(
            backbone=MODELS.build(
                dict(type='transmamba_mm.VMamba', arch=arch))))
    for p in classifier.parameters():
        torch.nn.init.normal_(p)
    path = tmp_path / 'classifier.pth'
    torch.save(dict(state_dict=classifier.state_dict()), path)
    dense = MODELS.build(
        dict(
            type='transmamba_mm.VMamba',
            arch=arch,
            out_indices=(0, 1),
            out_type='featmap',
            init_cfg=dict(
                type='Pretrained', checkpoint=str(path), prefix='backbone.')))
    dense.init_weights()
    for name, value in classifier.backbone.state_dict().items():
        assert torch.equal(dense.state_dict()[name], value), name
    assert dense.outnorm0.weight.eq(1).all()
