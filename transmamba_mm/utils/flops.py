"""Floating-point operations of a model, the selective scan included."""
from typing import Dict, Sequence

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from transmamba_mm.ops import (count_convolution_flops, count_scan_flops,
                               record_operations, set_scan_backend)


@torch.no_grad()
def count_flops(model: nn.Module, shape: Sequence[int]) -> Dict[str, int]:
    """Count parameters and operations of one forward pass on a CPU.

    Matrix products, convolutions and attention are counted by torch (a
    multiply-add is two operations), the scan by
    :func:`~transmamba_mm.ops.count_scan_flops`; norms, activations and other
    element-wise work are left out, as is usual. A distiller is no part of
    the student at inference and is not counted.

    Args:
        model (nn.Module): Called with one tensor. It is moved to the CPU and
            put into eval mode.
        shape (Sequence[int]): Shape of the images (B, C, H, W).

    Returns:
        Dict[str, int]: ``parameters``, ``matmul``, ``scan`` and ``total``.
    """
    distiller = getattr(model, 'distiller', None)
    if distiller is not None:
        model.distiller = None
    # the reference scan uses no matrix product that torch would count too
    forced = set_scan_backend('reference')
    try:
        counter = FlopCounterMode(display=False)
        # torch counts the products of attention, not its fused CPU kernel
        with counter, sdpa_kernel(SDPBackend.MATH), \
                record_operations('scan') as scans, \
                record_operations('convolution') as convolutions:
            model.cpu().eval()(torch.zeros(*shape))
    finally:
        set_scan_backend(forced)
        parameters = sum(p.numel() for p in model.parameters())
        if distiller is not None:
            model.distiller = distiller
    # the causal convolution is no convolution of torch
    matmul = counter.get_total_flops() + sum(
        count_convolution_flops(**sizes) for sizes in convolutions)
    scan = sum(count_scan_flops(**sizes) for sizes in scans)
    return dict(
        parameters=parameters, matmul=matmul, scan=scan, total=matmul + scan)
