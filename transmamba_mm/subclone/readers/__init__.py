"""Readers of Transformers, one file for each library's names."""
from .reader import DIALECTS, read_teacher

__all__ = ['DIALECTS', 'read_teacher']
