"""Teacher files: what is read, and under which names."""
import pytest
import torch
from mmpretrain.registry import MODELS

from tests.toy import vit_cfg
from transmamba_mm.subclone import CANONICAL_NAMES, read_teacher
from transmamba_mm.utils.state_dict import unwrap_state_dict
from ..toys import clone, student


def test_unknown_layout_is_named():
    with pytest.raises(ValueError, match='no known layout.*conv1'):
        read_teacher({'conv1.weight': torch.zeros(1)})


def test_distilled_deit_is_read():
    cfg = vit_cfg()
    cfg['backbone']['type'] = 'DistilledVisionTransformer'
    cfg['head'] = dict(type='DeiTClsHead', num_classes=4, in_channels=48)
    source = read_teacher(MODELS.build(cfg).state_dict())
    assert 'dist_token' in source and source['head.weight'].shape == (4, 48)
    new, rows, _ = clone(source, student())
    assert rows['pos_embed'].taken == new['pos_embed'].numel()


@pytest.mark.parametrize('prefix', ['', 'backbone.', 'module.backbone.'])
def test_backbone_alone_or_in_a_classifier(prefix):
    cfg = vit_cfg(num_layers=2)
    state = MODELS.build(cfg['backbone']).state_dict()
    source = read_teacher({prefix + k: v for k, v in state.items()})
    qkv = state['layers.1.attn.qkv.weight']
    assert torch.equal(source['layers.1.q.weight'], qkv[:48])
    assert torch.equal(source['layers.1.k.weight'], qkv[48:96])
    assert torch.equal(source['layers.1.v.weight'], qkv[96:])
    assert torch.equal(source['layers.1.v.bias'],
                       state['layers.1.attn.qkv.bias'][96:])
    assert torch.equal(source['layers.0.o.weight'],
                       state['layers.0.attn.proj.weight'])
    assert torch.equal(source['layers.0.fc2.weight'],
                       state['layers.0.ffn.layers.1.weight'])
    assert torch.equal(source['final_norm.bias'], state['ln1.bias'])
    assert len(source) == len(state) + 2 * 2 * 2, 'qkv is three tensors'


def test_every_name_is_one_that_rules_may_use():
    source = read_teacher(MODELS.build(vit_cfg(num_layers=1)).state_dict())
    for name in source:
        assert name.replace('.0.', '.{i}.') in CANONICAL_NAMES
    assert source.info.dialect == 'mmpretrain'


def test_head_of_a_vision_transformer():
    cfg = vit_cfg()
    cfg['head'] = dict(
        type='VisionTransformerClsHead', num_classes=4, in_channels=48)
    source = read_teacher(MODELS.build(cfg).state_dict())
    assert source['head.weight'].shape == (4, 48)


def test_weights_are_found_in_a_checkpoint():
    own, other = torch.ones(1), torch.zeros(1)
    checkpoint = dict(
        meta=dict(epoch=1),
        state_dict=dict(a=own),
        ema_state_dict=dict(a=other, steps=1))
    assert unwrap_state_dict(checkpoint)['a'] is own
    assert unwrap_state_dict(dict(model=dict(a=own)))['a'] is own
    assert unwrap_state_dict(dict(a=own, epoch=3)) == dict(a=own)
    assert unwrap_state_dict([own]) == {}
