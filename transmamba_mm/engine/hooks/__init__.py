"""Hooks: distillation, subcloning, checkpoints and the non-finite guard."""
from .bidirectional_distill_hook import BidirectionalDistillHook
from .cuda_graph_hook import CUDAGraphHook
from .data_subset_hook import DataSubsetHook
from .non_finite_guard_hook import NonFiniteGuardHook
from .resumable_checkpoint_hook import ResumableCheckpointHook
from .weight_subclone_hook import WeightSubcloneHook

__all__ = [
    'BidirectionalDistillHook',
    'CUDAGraphHook',
    'DataSubsetHook',
    'NonFiniteGuardHook',
    'ResumableCheckpointHook',
    'WeightSubcloneHook',
]
