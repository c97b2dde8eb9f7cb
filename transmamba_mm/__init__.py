"""TransMamba for OpenMMLab: Mamba students that learn from Transformers."""
from . import version_guard  # noqa: F401  isort: skip
from . import compat  # noqa: F401  isort: skip
from .model_index import register_models
from .version import __version__

__all__ = ['__version__', 'register_models']

register_models()
