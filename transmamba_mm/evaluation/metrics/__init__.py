"""Metrics."""
from .text_video_retrieval_metric import TextVideoRetrievalMetric
from .vqa_answer_metric import VQAAnswerMetric

__all__ = ['TextVideoRetrievalMetric', 'VQAAnswerMetric']
