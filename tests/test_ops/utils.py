"""Inputs and comparisons for the tests of the scan."""
import torch

from transmamba_mm.ops import selective_scan

NAMES = ('u', 'delta', 'A', 'B', 'C', 'D', 'z', 'delta_bias')


def make_inputs(batch=2, channels=6, d_state=3, length=37, groups=1, seed=0):
    """Draw float64 inputs with the layout of mamba-ssm, all options used."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*size):
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    rates = torch.rand(
        channels, d_state, generator=generator, dtype=torch.float64)
    return dict(
        u=draw(batch, channels, length),
        delta=draw(batch, channels, length),
        A=-4 * rates - 0.1,
        B=draw(batch, groups, d_state, length),
        C=draw(batch, groups, d_state, length),
        D=draw(channels),
        z=draw(batch, channels, length),
        delta_bias=draw(channels) - 2)


def cast(inputs, dtype, only=NAMES):
    """Copies that want a gradient, the named ones in another dtype."""
    return {
        k: t.to(dtype if k in only else t.dtype).clone().requires_grad_()
        for k, t in inputs.items()
    }


def run(inputs, backend, dout=None, softplus=True):
    """Output and gradients by name; ``dout`` defaults to cosines."""
    out = selective_scan(**inputs, delta_softplus=softplus, backend=backend)
    if dout is None:
        dout = torch.arange(out.numel(), dtype=torch.float64).cos()
        dout = dout.view(out.shape).to(out.device)
    wanted = {k: t for k, t in inputs.items() if t.requires_grad}
    grads = torch.autograd.grad(out, wanted.values(), dout.to(out.dtype))
    return out.detach(), dict(zip(wanted, grads))


def relative(got, want):
    """Largest error over the largest value."""
    scale = want.abs().max().clamp(min=1e-30)
    return ((got.double() - want).abs().max() / scale).item()
