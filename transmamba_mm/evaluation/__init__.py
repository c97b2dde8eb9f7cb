"""Evaluation: text-video retrieval."""
from .metrics import TextVideoRetrievalMetric

__all__ = ['TextVideoRetrievalMetric']
