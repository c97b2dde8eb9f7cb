"""TransMamba for OpenMMLab: Mamba students that learn from Transformers."""
from . import compat  # noqa: F401  isort: skip
from .version import __version__

__all__ = ['__version__']
