"""Pictures of trainings, layers, receptive fields and scan directions."""
from .cam import CamReshape, default_cam_layer
from .direction_maps import (KINDS, direction_maps, draw_direction_maps,
                             find_blocks, parse_layers)
from .feature_map import feature_maps, to_feature_map
from .figures import to_array, to_png
from .receptive_field import (contribution_area, draw_receptive_fields,
                              effective_receptive_field)
from .training_log import TrainingLog, read_training_log
from .training_plots import draw_curves, draw_similarity

__all__ = [
    'KINDS', 'CamReshape', 'TrainingLog', 'parse_layers', 'contribution_area',
    'default_cam_layer', 'direction_maps', 'draw_curves',
    'draw_direction_maps', 'draw_receptive_fields', 'draw_similarity',
    'effective_receptive_field', 'feature_maps', 'find_blocks',
    'read_training_log', 'to_array', 'to_feature_map', 'to_png'
]
