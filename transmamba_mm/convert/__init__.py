"""Official weights of the Mamba families, made ready for this package."""
from .convert import (FAMILIES, Conversion, choose_family, classifier_config,
                      convert_weights)
from .official_file import OfficialFile, load_official_file
from .recognition import Recognition
from .stored_settings import check_settings, training_model
from .unwrap import Weights, find_weights

__all__ = [
    'FAMILIES', 'Conversion', 'OfficialFile', 'Recognition', 'Weights',
    'check_settings', 'choose_family', 'classifier_config', 'convert_weights',
    'find_weights', 'load_official_file', 'training_model'
]
