"""Official weights are recognised, renamed and loaded without a rest."""
import pytest
import torch
from mmpretrain.registry import MODELS

from transmamba_mm.convert import convert_weights, find_weights
from . import layouts
from .layouts import (bidirectional, channel_first, current_names, fill,
                      first_names, plainmamba, video, vmamba)

VMAMBA_V0 = dict(first=True, depths=(1, 1, 1, 1))


def convert(shapes_or_state, **kwargs):
    state = shapes_or_state
    if not isinstance(next(iter(state.values())), torch.Tensor):
        state = fill(state)
    return convert_weights(find_weights(state).state, **kwargs)


def build(conversion):
    model = MODELS.build(conversion.model).eval()
    model.load_state_dict(conversion.state, strict=True)
    return model


def logits(model, size=(3, 32, 64)):
    images = torch.randn(1, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return model.head(model.backbone(images))


# name -> official state, family to give, expected backbone without its arch
CASES = dict(
    vim=(bidirectional(), 'vim', 'VisionMamba'),
    vim_plus=(bidirectional(positions=730), 'vim', 'VisionMamba'),
    videomamba=(bidirectional(), 'videomamba', 'VideoMamba'),
    video=(video(), None, 'VideoMamba'),
    plainmamba=(plainmamba(), None, 'PlainMamba'),
    plainmamba_l1=(plainmamba(convs=1, dw=(0, )), None, 'PlainMamba'),
    vmamba=(vmamba(), None, 'VMamba'),
    vmamba_wide=(vmamba(expand=2), None, 'VMamba'),
    vmamba_v0=(vmamba(**VMAMBA_V0), None, 'VMamba'))


@pytest.mark.parametrize('name', CASES)
def test_round_trip(name):
    """Every official weight reaches the classifier, with its values."""
    shapes, family, kind = CASES[name]
    state = fill(shapes)
    conversion = convert(state, family=family)
    loaded = build(conversion).state_dict()
    assert conversion.model['backbone']['type'] == f'transmamba_mm.{kind}'
    assert len(loaded) == len(state) and not conversion.dropped
    for official, value in state.items():
        own = official.removeprefix('backbone.')
        own = own.replace('classifier.head', 'head.fc')
        if own in ('head.weight', 'head.bias'):
            own = own.replace('head.', 'head.fc.')
        own = own if own.startswith('head.fc') else f'backbone.{own}'
        assert torch.equal(loaded[own], value.to(loaded[own].dtype)), official


def test_settings_that_names_do_not_show():
    backbone = convert(CASES['vim_plus'][0], family='vim').model['backbone']
    assert backbone['patch_stride'] == 8 and 'img_size' not in backbone
    backbone = convert(video(frames=12, tubelet=3)).model['backbone']
    assert (backbone['num_frames'], backbone['tubelet_size']) == (12, 3)
    backbone = convert(bidirectional(positions=17), family='vim').model
    assert backbone['backbone']['img_size'] == 64


@pytest.mark.parametrize('kwargs', [{}, VMAMBA_V0], ids=['v2', 'v0'])
def test_eras_of_vmamba_give_the_same_model(kwargs):
    state = fill(vmamba(**kwargs))
    eras = dict(v2=state, current=current_names(state))
    eras['channel first'] = channel_first(state)
    if kwargs:
        eras['v0'] = first_names(state)
    expected = logits(build(convert(state)))
    for era, renamed in eras.items():
        conversion = convert(dict(renamed))
        assert torch.equal(logits(build(conversion)), expected), era
        wanted = 'v2' if era == 'channel first' else era
        assert conversion.recognition.era == wanted
    assert not torch.equal(
        logits(build(convert(fill(vmamba(**kwargs), 1)))), expected)


def test_dense_vmamba_keeps_its_norms():
    shapes = {k: v for k, v in vmamba().items() if 'classifier' not in k}
    for i in range(4):
        shapes.update(layouts.norm(f'outnorm{i}', 32 * 2**i))
    shapes['decode_head.conv_seg.weight'] = (150, 512, 1, 1)
    state = {
        k if k.startswith('decode') else f'backbone.{k}': v
        for k, v in fill(shapes).items()
    }
    weights = find_weights(dict(state_dict=state))
    assert weights.dropped == ('decode_head.conv_seg.weight', )
    conversion = convert_weights(weights.state)
    assert conversion.recognition.num_classes is None
    assert conversion.model['backbone']['out_indices'] == (0, 1, 2, 3)
    model = build(conversion)
    assert torch.equal(model.backbone.outnorm1.weight,
                       state['backbone.outnorm1.weight'])
    assert torch.equal(model.backbone.classifier.norm.weight,
                       state['backbone.outnorm3.weight'])
    outs = model.backbone(torch.randn(1, 3, 32, 64))
    assert [tuple(o.shape[1:]) for o in outs] == [(32, 8, 16), (64, 4, 8),
                                                  (128, 2, 4), (256, 1, 2)]


def test_pre_trained_videomamba():
    """Multimodal files hold an encoder, parts for training and a text model,
    and name the last norm in another way."""
    shapes = video()
    shapes['norm.weight'] = shapes.pop('norm_f.weight')
    for key in ('head.weight', 'head.bias'):
        del shapes[key]
    shapes.update(layouts.norm('pool_norm', 32))
    shapes.update(layouts.linear('clip_decoder.0.head', 48, 32))
    state = {f'vision_encoder.{k}': v for k, v in fill(shapes).items()}
    state['text_encoder.embeddings.weight'] = torch.zeros(5, 4)
    weights = find_weights(dict(model=state))
    assert weights.dropped == ('text_encoder.embeddings.weight', )
    conversion = convert_weights(weights.state)
    assert conversion.recognition.era == 'pre-training'
    assert sorted(conversion.dropped) == [
        'clip_decoder.0.head.bias', 'clip_decoder.0.head.weight',
        'pool_norm.bias', 'pool_norm.weight'
    ]
    norm = build(conversion).backbone.norm_f.weight
    assert torch.equal(norm, state['vision_encoder.norm.weight'])


def test_wrappers():
    state = fill(bidirectional())
    other = fill(bidirectional(), 1)
    content = dict(model_ema=other, model=state, optimizer={}, epoch=3)
    weights = find_weights(content)
    assert weights.key == 'model' and weights.other_keys == ('model_ema', )
    assert torch.equal(weights.state['cls_token'], state['cls_token'])
    taken = find_weights(content, 'model_ema').state
    assert torch.equal(taken['cls_token'], other['cls_token'])
    parallel = {f'module.{k}': v for k, v in state.items()}
    assert set(find_weights(parallel).state) == set(state)
    averaged = dict(fill(plainmamba()))
    averaged['ema_backbone_ln1_weight'] = torch.zeros(32)
    weights = find_weights(dict(state_dict=averaged))
    assert weights.dropped == ('ema_backbone_ln1_weight', )
    convert_weights(weights.state)
    with pytest.raises(ValueError, match=r"no weights under 'ema'.*\['model'"):
        find_weights(content, 'ema')
    for bad, message in ((3, 'holds a int'), (dict(a=1), r"entries \['a'\]"),
                         (dict(model=dict(state, x=1)), r"\['x'\].*no tens")):
        with pytest.raises(ValueError, match=message):
            find_weights(bad)
