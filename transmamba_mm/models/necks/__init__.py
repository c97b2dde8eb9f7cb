"""Necks: the projection aligner."""
from .projection_aligner import ProjectionAligner

__all__ = ['ProjectionAligner']
