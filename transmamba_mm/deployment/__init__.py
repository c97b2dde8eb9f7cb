"""Export of trained models."""
from .export import export_onnx

__all__ = ['export_onnx']
