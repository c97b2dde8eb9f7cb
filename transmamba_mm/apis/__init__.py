"""Inference."""
from .predict_dataset import predict_dataset
from .text_video_retriever import TextVideoRetriever

__all__ = ['TextVideoRetriever', 'predict_dataset']
