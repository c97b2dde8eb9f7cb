"""Hooks: distillation, subcloning, checkpoints and the non-finite guard."""
from .bidirectional_distill_hook import BidirectionalDistillHook

__all__ = [
    'BidirectionalDistillHook',
]
