"""Outputs of the official code, at the same weights and images.

Each fixture names the repository and commit that its numbers come from.
"""
import pytest
import torch
from mmpretrain.registry import MODELS

from .parity import (TOLERANCE, fill_state, make_input, read_fixture,
                     relative_error, sample)

FIXTURES = {
    name: read_fixture(name)
    for name in ('vim', 'plainmamba', 'videomamba')
}
CASES = [
    pytest.param(fixture['family'], case, id=f'{name}-{case["name"]}')
    for name, fixture in FIXTURES.items() for case in fixture['cases']
]
SIZES = [(fixture['family'], arch, *counts) for fixture in FIXTURES.values()
         for arch, counts in fixture['parameters'].items()]


def build(family, **kwargs):
    return MODELS.build(dict(type=f'transmamba_mm.{family}', **kwargs)).eval()


def filled(family, case, **kwargs):
    model = build(family, **case['backbone'], **kwargs)
    state = fill_state(model.state_dict(), case['seed'])
    keys = model.load_state_dict(state, strict=False)
    assert all(k.endswith('num_batches_tracked') for k in keys.missing_keys)
    return model


@torch.no_grad()
def run(model, case):
    return model(make_input(case['input'], case['seed']))[-1]


@pytest.mark.parametrize('family, case', CASES)
def test_outputs_are_the_official_ones(family, case):
    model = filled(family, case, out_type='raw')
    assert sum(p.numel() for p in model.parameters()) == case['parameters']
    tokens = run(model, case)
    assert list(tokens.shape) == case['shape']
    assert relative_error(sample(tokens), case['values']) < TOLERANCE
    assert tokens.norm().item() == pytest.approx(case['norm'], rel=TOLERANCE)
    # what feeds the head: class token or mean, as published
    model.out_type = build(family, **case['backbone']).out_type
    pooled = sample(run(model, case), 24)
    assert relative_error(pooled, case['pooled']) < TOLERANCE


@pytest.mark.parametrize('family, arch, backbone, classifier', SIZES)
def test_parameter_counts_are_the_official_ones(family, arch, backbone,
                                                classifier):
    with torch.device('meta'):
        model = build(family, arch=arch)
    count = sum(p.numel() for p in model.parameters())
    assert count == backbone
    assert count + 1000 * (model.embed_dims + 1) == classifier


def test_parameter_count_of_a_clip_model():
    entry = FIXTURES['videomamba']['video_parameters']
    with torch.device('meta'):
        model = build('VideoMamba', **entry['backbone'])
    assert sum(p.numel() for p in model.parameters()) == entry['count']


@pytest.mark.parametrize('fixture, other', [('vim', 'VideoMamba'),
                                            ('videomamba', 'VisionMamba')])
def test_vim_and_videomamba_share_tensors_but_no_meaning(fixture, other):
    """The one's weights load into the other, and mean something else."""
    case = FIXTURES[fixture]['cases'][0]
    model = filled(other, case)
    assert relative_error(sample(run(model, case), 24), case['pooled']) > 0.1


@pytest.mark.parametrize('on_loading', [False, True])
def test_embeddings_are_resized_as_officially(on_loading):
    """Other images and more frames, fitted when needed or when loaded."""
    case = FIXTURES['videomamba']['resized']
    trained = dict(backbone=case['trained'], seed=case['seed'])
    model = filled('VideoMamba', trained, out_type='raw')
    if on_loading:
        state = model.state_dict()
        model = build('VideoMamba', **case['used'], out_type='raw')
        model.load_state_dict(state)
    tokens = run(model, case)
    assert list(tokens.shape) == case['shape']
    assert relative_error(sample(tokens), case['values']) < TOLERANCE
