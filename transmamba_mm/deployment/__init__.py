"""Export and serving of trained models."""
from .export import export_onnx
from .graphed import graphed

__all__ = ['export_onnx', 'graphed']
