"""Weights and images by seed, for comparisons with stored outputs.

Whoever makes the fixtures with the official code fills its model by the same
``fill_state``; names and shapes are the same there, so that the values are.
"""
import json
from pathlib import Path

import torch

FIXTURES = Path(__file__).parents[2] / 'fixtures'
TOLERANCE = 1e-4


def read_fixture(name):
    return json.loads((FIXTURES / f'parity_{name}.json').read_text())


def fill_state(state, seed):
    """Return new values for a backbone's tensors, in sorted key order."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: fill_tensor(name, state[name], generator)
        for name in sorted(state)
        if not name.startswith('head') and state[name].is_floating_point()
    }


def fill_tensor(name, tensor, generator):
    noise = torch.randn(tensor.shape, generator=generator)
    if name.endswith('running_var'):
        return 0.5 + noise.abs()
    if name.endswith(('_log', '_logs')):
        return 0.5 + 0.5 * noise
    if 'dt_proj' in name and name.endswith('bias'):
        return 0.5 * noise - 3.
    if name.endswith('embed') or 'embedding' in name or 'cls_token' in name:
        return 0.5 * noise
    if tensor.dim() == 1:
        offset = 0. if name.endswith(('bias', 'running_mean')) else 1.
        return offset + 0.2 * noise
    return noise * tensor[0].numel()**-0.5


def make_input(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def sample(tensor, count=48):
    """Take some values, spread over the tensor."""
    flat = tensor.detach().flatten()
    index = torch.linspace(0, len(flat) - 1, min(count, len(flat))).long()
    return flat[index]


def describe(tokens, pooled):
    """What a fixture stores of an output."""
    return dict(
        shape=list(tokens.shape),
        norm=tokens.norm().item(),
        values=[round(v, 7) for v in sample(tokens).tolist()],
        pooled=[round(v, 7) for v in sample(pooled, 24).tolist()])


def relative_error(got, want):
    want = torch.tensor(want)
    return ((got - want).norm() / want.norm()).item()
