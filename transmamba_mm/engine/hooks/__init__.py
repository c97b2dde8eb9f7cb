"""Hooks: distillation, subcloning, checkpoints, the non-finite guard,
predictions, and retrieval."""
from .bidirectional_distill_hook import BidirectionalDistillHook
from .cuda_graph_hook import CUDAGraphHook
from .data_subset_hook import DataSubsetHook
from .non_finite_guard_hook import NonFiniteGuardHook
from .resumable_checkpoint_hook import ResumableCheckpointHook
from .retrieval_rerank_hook import RetrievalRerankHook
from .save_predictions_hook import SavePredictionsHook
from .video_report_hook import VideoReportHook
from .weight_subclone_hook import WeightSubcloneHook

__all__ = [
    'BidirectionalDistillHook',
    'CUDAGraphHook',
    'DataSubsetHook',
    'NonFiniteGuardHook',
    'ResumableCheckpointHook',
    'RetrievalRerankHook',
    'SavePredictionsHook',
    'VideoReportHook',
    'WeightSubcloneHook',
]
