"""VMamba gives what the official code gives on the same weights."""
import pytest
import torch
from mmpretrain.registry import MODELS

from .parity import (TOLERANCE, fill_state, make_input, read_fixture,
                     relative_error, sample)

FIXTURE = read_fixture('vmamba')


def build(case, **kwargs):
    model = MODELS.build(
        dict(type='transmamba_mm.VMamba', arch=case['arch'], **kwargs)).eval()
    model.load_state_dict(fill_state(model.state_dict(), case['seed']))
    return model


@pytest.mark.parametrize('case', FIXTURE['cases'], ids=lambda c: c['name'])
@torch.no_grad()
def test_output_is_the_official_one(case):
    model = build(case, out_type='raw')
    assert sum(p.numel() for p in model.parameters()) == case['parameters']
    tokens = model(make_input(case['input_shape'], case['input_seed']))[-1]
    assert list(tokens.shape) == case['shape']
    assert abs(tokens.norm().item() / case['norm'] - 1) < TOLERANCE
    assert relative_error(sample(tokens), case['values']) < TOLERANCE
    pooled = sample(tokens.mean(1), 24)
    assert relative_error(pooled, case['pooled']) < TOLERANCE


def test_fixture_names_its_source():
    assert FIXTURE['source'] == 'MzeroMiko/VMamba'
    assert len(FIXTURE['commit']) == 40
    widths = {case['arch']['embed_dims'] for case in FIXTURE['cases']}
    assert len(widths) >= 2


def test_newer_names_and_convolution_weights_are_understood():
    case = FIXTURE['cases'][2]
    model = build(case)
    state = {}
    for name, value in model.state_dict().items():
        if name.endswith('x_proj_weight'):
            name = name.replace('x_proj_weight', 'x_proj.weight')
            value = value.flatten(0, 1)
        elif name.endswith('dt_projs_weight'):
            name = name.replace('dt_projs_weight', 'dt_projs.weight')
            value = value.flatten(0, 1)
        elif value.dim() == 2 and not name.endswith('A_logs'):
            value = value[..., None, None]  # as a 1 x 1 convolution
        name = name.replace('classifier.norm', 'outnorm3')
        state[name] = value
    other = build(dict(case, seed=99))
    other.load_state_dict(state)
    x = make_input(case['input_shape'], 0)
    torch.testing.assert_close(other(x)[-1], model(x)[-1])
