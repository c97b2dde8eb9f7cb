"""The scan from a given state equals one scan over everything."""
import pytest
import torch

from transmamba_mm.ops import resumed_scan, selective_scan
from .utils import make_inputs


def cut(inputs, start, stop):
    return {
        k: t[..., start:stop] if k in ('u', 'delta', 'B', 'C', 'z') else t
        for k, t in inputs.items()
    }


@pytest.mark.parametrize('groups', [1, 2])
@pytest.mark.parametrize('places', [(0, 36, 37), (0, 5, 6, 7, 37), (0, 37)])
def test_pieces_equal_the_whole(groups, places):
    inputs = make_inputs(groups=groups)
    whole, last = selective_scan(
        **inputs, delta_softplus=True, return_last_state=True)
    state, outs = None, []
    for start, stop in zip(places, places[1:]):
        out, state = resumed_scan(
            **cut(inputs, start, stop), delta_softplus=True, state=state)
        outs.append(out)
    torch.testing.assert_close(torch.cat(outs, dim=-1), whole)
    torch.testing.assert_close(state, last.to(state), rtol=1e-5, atol=1e-6)


def test_state_of_another_shape_is_refused():
    inputs = make_inputs()
    with pytest.raises(ValueError, match='state has the shape'):
        resumed_scan(**inputs, state=torch.zeros(1, 6, 3))


def test_half_precision_keeps_the_state_in_float32():
    inputs = {k: t.bfloat16() for k, t in make_inputs().items()}
    out, state = resumed_scan(**cut(inputs, 0, 1), state=torch.zeros(2, 6, 3))
    assert out.dtype == torch.bfloat16 and state.dtype == torch.float32
