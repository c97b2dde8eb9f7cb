"""Hooks: distillation, subcloning, checkpoints and the non-finite guard."""
__all__ = []
