"""Selective scan: one interface, several back ends."""
import os
from functools import lru_cache
from typing import Optional, Tuple, Union

import torch
from mmengine.logging import print_log
from torch import Tensor

from . import chunked, mamba_ssm, reference

#: Environment variable that forces a back end.
ENVIRONMENT_VARIABLE = 'TRANSMAMBA_SCAN_BACKEND'
BACKENDS = dict(
    mamba_ssm=mamba_ssm.scan, chunked=chunked.scan, reference=reference.scan)
_forced: Optional[str] = None


def selective_scan(u: Tensor,
                   delta: Tensor,
                   A: Tensor,
                   B: Tensor,
                   C: Tensor,
                   D: Optional[Tensor] = None,
                   z: Optional[Tensor] = None,
                   delta_bias: Optional[Tensor] = None,
                   delta_softplus: bool = False,
                   return_last_state: bool = False,
                   backend: Optional[str] = None
                   ) -> Union[Tensor, Tuple[Tensor, Tensor]]:
    """Run the selective scan (S6) with the argument layout of mamba-ssm.

    The state is kept in float32 whatever the inputs' dtype, and in float64
    for float64 inputs. Inputs may be strided views.

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
        delta_softplus (bool): Whether ``delta`` goes through softplus.
            Defaults to False.
        return_last_state (bool): Whether the last state is returned too; no
            gradient flows through it. Defaults to False.
        backend (str, optional): 'mamba_ssm', 'chunked' or 'reference'; None
            takes the forced one, or else the best for the device. Defaults
            to None.

    Returns:
        Tensor | Tuple[Tensor, Tensor]: Output (batch, E, L) in u's dtype,
        and the last state (batch, E, N) if asked for.

    Raises:
        ValueError: If shapes do not agree, or the back end is unknown.
    """
    B, C = (t.unsqueeze(1) if t.dim() == 3 else t for t in (B, C))
    _check_shapes(u, delta, A, B, C, z)
    name = backend or get_scan_backend(u)
    _check_backend(name, 'the argument `backend`')
    _report(name, u.device.type)
    out, last = BACKENDS[name](u, delta, A, B, C, D, z, delta_bias,
                               delta_softplus)
    return (out, last.detach()) if return_last_state else out


def set_scan_backend(name: Optional[str]) -> None:
    """Force a back end for the whole process.

    Args:
        name (str, optional): 'mamba_ssm', 'chunked' or 'reference'; None
            goes back to the choice by device.

    Raises:
        ValueError: If the name is unknown.
    """
    global _forced
    if name is not None:
        _check_backend(name, 'set_scan_backend')
    _forced = name


def get_scan_backend(u: Tensor) -> str:
    """Tell which back end an input would run on.

    Args:
        u (Tensor): Input of the scan.

    Returns:
        str: The one forced by :func:`set_scan_backend` or by the environment
        variable TRANSMAMBA_SCAN_BACKEND, or else the best for the device.
    """
    forced = _forced or os.environ.get(ENVIRONMENT_VARIABLE)
    if forced:
        _check_backend(forced, ENVIRONMENT_VARIABLE)
        return forced
    return 'mamba_ssm' if mamba_ssm.is_available(u) else 'chunked'


def _check_backend(name: str, where: str) -> None:
    if name not in BACKENDS:
        raise ValueError(f"Unknown scan back end '{name}' in {where}; use one "
                         f'of {sorted(BACKENDS)}.')


def _check_shapes(u, delta, A, B, C, z) -> None:
    batch, channels, length = u.shape
    groups, d_state = B.shape[1], A.shape[1]
    wanted = dict(
        delta=(delta, (batch, channels, length)),
        A=(A, (channels, d_state)),
        B=(B, (batch, groups, d_state, length)),
        C=(C, (batch, groups, d_state, length)))
    if z is not None:
        wanted['z'] = (z, (batch, channels, length))
    for name, (tensor, shape) in wanted.items():
        if tuple(tensor.shape) != shape:
            raise ValueError(
                f'selective_scan: {name} has the shape '
                f'{tuple(tensor.shape)}, but {shape} goes with u of shape '
                f'{tuple(u.shape)} and {d_state} states.')
    if channels % groups:
        raise ValueError(f'selective_scan: {channels} channels cannot be cut '
                         f'into {groups} groups.')


@lru_cache(maxsize=None)
def _report(name: str, device: str) -> None:
    """Log the back end once."""
    torch_threads = f', {torch.get_num_threads()} threads' * (device == 'cpu')
    print_log(
        f"Selective scan: back end '{name}' on {device}{torch_threads}.",
        logger='current')
