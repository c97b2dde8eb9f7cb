"""TransMamba for OpenMMLab: Mamba students that learn from Transformers."""
from .version import __version__

__all__ = ['__version__']
