"""Recording of intermediate features."""
from .recorder import LayerRecorder, find_modules

__all__ = ['LayerRecorder', 'find_modules']
