"""Selective scan: one interface, several back ends."""
import os
from functools import lru_cache
from typing import Optional, Tuple, Union

import torch
from mmengine.logging import print_log
from torch import Tensor

from . import chunked, mamba_ssm, reference, triton_scan

#: Environment variable that forces a back end.
ENVIRONMENT_VARIABLE = 'TRANSMAMBA_SCAN_BACKEND'
BACKENDS = dict(
    triton=triton_scan.scan,
    mamba_ssm=mamba_ssm.scan,
    chunked=chunked.scan,
    reference=reference.scan)
#: Back ends of a card, the best first, and why they cannot run.
_ON_CARD = dict(triton=triton_scan.why_not, mamba_ssm=mamba_ssm.why_not)
_forced: Optional[str] = None


def selective_scan(
        u: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Optional[Tensor] = None,
        z: Optional[Tensor] = None,
        delta_bias: Optional[Tensor] = None,
        delta_softplus: bool = False,
        return_last_state: bool = False,
        backend: Optional[str] = None) -> Union[Tensor, Tuple[Tensor, Tensor]]:
    """Run the selective scan (S6) with the argument layout of mamba-ssm.

    Paper: `Mamba <https://arxiv.org/abs/2312.00752>`_, section 3. The state
    is kept in float32 whatever the inputs' dtype, and in float64 for float64
    inputs. Inputs may be strided views.

    Args:
        u (Tensor): Input (batch, E, L).
        delta (Tensor): Step size (batch, E, L).
        A (Tensor): Decay rates (E, N), real and negative.
        B (Tensor): Input weights (batch, N, L), or (batch, G, N, L) for G
            groups of channels.
        C (Tensor): Output weights, shaped as B.
        D (Tensor, optional): Skip weights (E,). Defaults to None.
        z (Tensor, optional): Gate (batch, E, L); the output is multiplied by
            silu(z). Defaults to None.
        delta_bias (Tensor, optional): Added to ``delta`` (E,). Defaults to
            None.
        delta_softplus (bool): Whether ``delta`` goes through softplus, which
            is the identity above 20, as in mamba-ssm. Defaults to False.
        return_last_state (bool): Whether the last state is returned too; no
            gradient flows through it. Defaults to False.
        backend (str, optional): 'triton', 'mamba_ssm', 'chunked' or
            'reference'; None
            takes the best for the device. What :func:`set_scan_backend` or
            the environment forces comes first. Defaults to None.

    Returns:
        Tensor | Tuple[Tensor, Tensor]: Output (batch, E, L) in u's dtype,
        and the last state (batch, E, N) in float32 if asked for.

    Raises:
        ValueError: If shapes do not agree, or the back end is unknown.
        TypeError: If an input is not a real floating-point tensor.
        RuntimeError: If the forced back end cannot run these inputs.
    """
    for name, x, dims in (('u', u, (3, )), ('A', A, (2, )), ('B', B, (3, 4)),
                          ('C', C, (3, 4))):
        if x.dim() not in dims:
            raise ValueError(f'selective_scan: {name} has the shape '
                             f'{tuple(x.shape)}; give {dims} dimensions.')
    B, C = (t.unsqueeze(1) if t.dim() == 3 else t for t in (B, C))
    groups = B.shape[1]
    if u.shape[1] % groups or groups == 0:
        raise ValueError(f'selective_scan: {u.shape[1]} channels of u cannot '
                         f'be cut into the {groups} groups of B.')

    def cut(x: Optional[Tensor], dim: int) -> Optional[Tensor]:
        if x is None or x.dim() <= dim or x.shape[dim] != u.shape[1]:
            return x  # refused below
        return x.unflatten(dim, (groups, -1))

    out, last = scan_groups(
        cut(u, 1), cut(delta, 1), cut(A, 0), B, C, cut(D, 0), cut(z, 1),
        cut(delta_bias, 0), delta_softplus, backend)
    out = out.flatten(1, 2)
    return (out, last.detach().flatten(1, 2)) if return_last_state else out


def scan_groups(u: Tensor,
                delta: Tensor,
                A: Tensor,
                B: Tensor,
                C: Tensor,
                D: Optional[Tensor] = None,
                z: Optional[Tensor] = None,
                delta_bias: Optional[Tensor] = None,
                delta_softplus: bool = False,
                backend: Optional[str] = None) -> Tuple[Tensor, Tensor]:
    """Run the scan on inputs that are cut into groups already.

    ``delta``, A, D and ``delta_bias`` may have 1 in place of G: they are then
    shared by all groups, and the chunked back end computes the decays once.

    Args:
        u (Tensor): Input (batch, G, E, L).
        delta (Tensor): Step size (batch, G or 1, E, L).
        A (Tensor): Decay rates (G or 1, E, N).
        B (Tensor): Input weights (batch, G, N, L).
        C (Tensor): Output weights (batch, G, N, L).
        D (Tensor, optional): Skip weights (G or 1, E). Defaults to None.
        z (Tensor, optional): Gate (batch, G, E, L). Defaults to None.
        delta_bias (Tensor, optional): Shape (G or 1, E). Defaults to None.
        delta_softplus (bool): Whether softplus is applied. Defaults to
            False.
        backend (str, optional): See :func:`selective_scan`. Defaults to
            None.

    Returns:
        Tuple[Tensor, Tensor]: Output (batch, G, E, L) and last state
        (batch, G, E, N).

    Raises:
        ValueError: If shapes do not agree, or the back end is unknown.
        TypeError: If an input is not a real floating-point tensor.
        RuntimeError: If the forced back end cannot run these inputs.
    """
    _check(u, dict(delta=delta, A=A, B=B, C=C, D=D, z=z, bias=delta_bias))
    groups = u.shape[1]
    rates = (delta.shape[1], A.shape[0],
             1 if delta_bias is None else delta_bias.shape[0])
    if max(rates) == groups > 1:  # shared altogether or not at all
        delta = delta.expand(-1, groups, -1, -1)
        A = A.expand(groups, -1, -1)
        if delta_bias is not None:
            delta_bias = delta_bias.expand(groups, -1)
    name = choose_backend(u, A.shape[-1], backend)
    return BACKENDS[name](u, delta, A, B, C, D, z, delta_bias, delta_softplus)


def set_scan_backend(name: Optional[str]) -> Optional[str]:
    """Force a back end for the whole process, whatever a call asks for.

    Args:
        name (str, optional): 'triton', 'mamba_ssm', 'chunked' or
            'reference'; None goes back to the environment variable
            TRANSMAMBA_SCAN_BACKEND or, if that is not set, to the choice by
            device.

    Returns:
        str, optional: What was forced before by this function.

    Raises:
        ValueError: If the name is unknown.
    """
    global _forced
    if name is not None:
        _check_backend(name, 'set_scan_backend')
    before, _forced = _forced, name
    return before


def get_scan_backend(where: Union[Tensor, torch.device, str] = 'cpu') -> str:
    """Tell which back end a scan would run on.

    Args:
        where (Tensor | torch.device | str): Input of the scan, or its
            device. Defaults to 'cpu'.

    Returns:
        str: The one forced by :func:`set_scan_backend` or by the environment
        variable TRANSMAMBA_SCAN_BACKEND, or else the best for the device.

    Raises:
        ValueError: If the environment variable holds an unknown name.
    """
    forced = _get_forced()
    if forced is not None:
        return forced
    if isinstance(where, Tensor):
        return _best(where.device, where.dtype)
    return _best(torch.device(where), torch.float32)


def _get_forced() -> Optional[str]:
    if _forced is not None:
        return _forced
    name = os.environ.get(ENVIRONMENT_VARIABLE) or None
    if name is not None:
        _check_backend(name, f'the environment variable '
                       f'{ENVIRONMENT_VARIABLE}')
    return name


def _best(device: torch.device, dtype: torch.dtype, d_state: int = 1) -> str:
    # asked on the device type first, so that a CPU run probes nothing
    for name, why_not in _ON_CARD.items():
        if why_not(device, dtype, d_state) is None:
            return name
    return 'chunked'


def choose_backend(u: Tensor, d_state: int, backend: Optional[str]) -> str:
    """Name the back end of one call, and log it once.

    Args:
        u (Tensor): Input of the scan.
        d_state (int): State size N.
        backend (str, optional): As :func:`selective_scan`.

    Returns:
        str: Name of the back end.

    Raises:
        ValueError: If a name is unknown.
        RuntimeError: If the forced back end cannot run these inputs.
    """
    if backend is not None:
        _check_backend(backend, 'the argument `backend`')
    name = _get_forced() or backend
    if name is None:
        name = _best(u.device, u.dtype, d_state)
    elif name in _ON_CARD and not (name == 'triton'
                                   and triton_scan.is_interpreted()):
        reason = _ON_CARD[name](u.device, u.dtype, d_state)
        if reason:
            raise RuntimeError(
                f"The scan back end '{name}' is forced, but {reason}. "
                "Force 'chunked' or none by set_scan_backend or "
                f'{ENVIRONMENT_VARIABLE}.')
    if not torch.compiler.is_compiling():
        _report(name, u.device.type)
    return name


def _check_backend(name: str, where: str) -> None:
    if name not in BACKENDS:
        raise ValueError(f"Unknown scan back end '{name}' in {where}; use one "
                         f'of {sorted(BACKENDS)}.')


def _check(u: Tensor, others: dict) -> None:
    """Refuse inputs that do not fit u (batch, G, E, L)."""
    batch, groups, channels, length = u.shape
    d_state = others['A'].shape[-1]
    if not length:
        raise ValueError('selective_scan: u has no time steps, shape '
                         f'{tuple(u.shape)}.')
    per_channel = {(groups, channels), (1, channels)}
    weights = {(batch, groups, d_state, length)}
    allowed = dict(
        delta={(batch, g, channels, length)
               for g in (groups, 1)},
        A={(groups, channels, d_state), (1, channels, d_state)},
        B=weights,
        C=weights,
        D=per_channel,
        z={tuple(u.shape)},
        bias=per_channel)
    for name, x in dict(u=u, **others).items():
        if x is None:
            continue
        if not x.is_floating_point():
            raise TypeError(f'selective_scan: {name} is {x.dtype}; give a '
                            'real floating-point tensor.')
        if x.device != u.device:
            raise ValueError(f'selective_scan: {name} is on {x.device}, u on '
                             f'{u.device}.')
        if name != 'u' and tuple(x.shape) not in allowed[name]:
            raise ValueError(
                f'selective_scan: {name} has the shape {tuple(x.shape)}, but '
                f'{" or ".join(map(str, sorted(allowed[name])))} goes with u '
                f'of shape {tuple(u.shape)} (batch, groups, channels, steps) '
                f'and {d_state} states.')


@lru_cache(maxsize=None)
def _report(name: str, device: str) -> None:
    """Log a back end once."""
    print_log(
        f"Selective scan: back end '{name}' on {device}.", logger='current')
