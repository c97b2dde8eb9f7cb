"""Evaluation: text-video retrieval, answers to questions about images, and
what a student's faults have to do with its teacher's."""
from .answer_priors import AnswerPriors
from .faults import compare_faults, describe_predictions, fault_report
from .metrics import TextVideoRetrievalMetric, VQAAnswerMetric
from .predictions import Predictions

__all__ = [
    'AnswerPriors', 'Predictions', 'TextVideoRetrievalMetric',
    'VQAAnswerMetric', 'compare_faults', 'describe_predictions', 'fault_report'
]
