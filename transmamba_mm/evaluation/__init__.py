"""Evaluation: text-video retrieval, answers to questions about images."""
from .answer_priors import AnswerPriors
from .metrics import TextVideoRetrievalMetric, VQAAnswerMetric

__all__ = ['AnswerPriors', 'TextVideoRetrievalMetric', 'VQAAnswerMetric']
