"""Kernels: selective scan in several orders, and the short convolution."""
from . import triton_operators  # noqa: F401  (registers the operators)
from .causal_conv1d import causal_conv1d
from .direction_conv1d import direction_conv1d
from .flops import count_convolution_flops, count_scan_flops, record_operations
from .multi_direction_scan import multi_direction_scan
from .resumed_scan import resumed_scan
from .scan_order import (BIDIRECTIONAL_NAMES, CLIP_SCANS, CROSS_NAMES,
                         SNAKE_NAMES, ScanOrders, bidirectional_orders,
                         clip_orders, cross_orders, snake_orders)
from .selective_scan import BACKENDS as SCAN_BACKENDS
from .selective_scan import get_scan_backend, selective_scan, set_scan_backend

__all__ = [
    'BIDIRECTIONAL_NAMES', 'CLIP_SCANS', 'CROSS_NAMES', 'SCAN_BACKENDS',
    'SNAKE_NAMES', 'ScanOrders', 'bidirectional_orders', 'causal_conv1d',
    'clip_orders', 'count_convolution_flops', 'count_scan_flops',
    'cross_orders', 'direction_conv1d', 'get_scan_backend',
    'multi_direction_scan', 'record_operations', 'resumed_scan',
    'selective_scan', 'set_scan_backend', 'snake_orders'
]
