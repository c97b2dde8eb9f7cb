"""By what a training may differ from its recipe."""
from typing import Dict

#: Options of a recipe by which a variant differs. 'clone.' and 'teach.' stand
#: for the recipe's subcloning and its distilling hook.
VARIANTS: Dict[str, Dict[str, str]] = {
    '': {},
    # distillation
    'block': {
        'model.distiller.features': 'block'
    },
    'paper_v1': {
        'model.distiller.variant': 'paper_v1'
    },
    'released_code': {
        'model.distiller.variant': 'released_code'
    },
    'logits only': {
        'model.distiller.alpha': '0',
        'model.distiller.logit_weight': '1'
    },
    'logits too': {
        'model.distiller.logit_weight': '1'
    },
    'not adaptive': {
        'model.distiller.adaptive': 'False'
    },
    'alpha 3': {
        'model.distiller.alpha': '3'
    },
    'alpha 10': {
        'model.distiller.alpha': '10'
    },
    # subcloning
    'linear': {
        'clone.plan.preset': 'linear'
    },
    '3 layers': {
        'clone.first_n': '3'
    },
    'all layers': {
        'clone.first_n': 'all'
    },
    'no layers': {
        'clone.first_n': '0'
    },
    'qkv to ssm': {
        'clone.plan.preset': 'qkv_to_ssm'
    },
    'no embeddings': {
        'clone.plan.preset': 'safe',
        'clone.plan.exclude': '[pos_embed,patch_embed,cls_token]'
    },
    'no position': {
        'clone.plan.preset': 'safe',
        'clone.plan.exclude': '[pos_embed]'
    },
    'no head': {
        'clone.plan.preset': 'safe',
        'clone.plan.exclude': '[head]'
    },
    'no norms': {
        'clone.plan.preset': 'safe',
        'clone.plan.exclude': '[norm,ln1]'
    },
    # the recipe, alone on a device
    'alone': {},
}


def options_of(variant: str) -> Dict[str, str]:
    """Return the options of a variant.

    Args:
        variant (str): Keys of ``VARIANTS``, joined by a comma and a space.

    Returns:
        Dict[str, str]: Config keys and values, with the two stand-ins.
    """
    return {
        key: value
        for part in variant.split(', ')
        for key, value in VARIANTS[part].items()
    }
