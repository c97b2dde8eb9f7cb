"""Hooks: distillation, subcloning, checkpoints, the non-finite guard,
predictions, pictures, and retrieval."""
from .bidirectional_distill_hook import BidirectionalDistillHook
from .cuda_graph_hook import CUDAGraphHook
from .data_subset_hook import DataSubsetHook
from .direction_map_hook import DirectionMapHook
from .export_open_clip_hook import ExportOpenCLIPHook
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
    'DirectionMapHook',
    'ExportOpenCLIPHook',
    'NonFiniteGuardHook',
    'ResumableCheckpointHook',
    'RetrievalRerankHook',
    'SavePredictionsHook',
    'VideoReportHook',
    'WeightSubcloneHook',
]
