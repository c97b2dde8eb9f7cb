"""LLaVA: an image tower, a projector and a language model.

Hugging Face's names of both generations, those of the authors' files, and
those of this package's ``TransLlava``.
"""
from . import hf_clip, llama, mmpretrain
from .dialect import Dialect, Tower

_PROJECTOR = (
    r'(?:model\.)?(?:multi_modal_projector|mm_projector|projector)\.', (
        ('linear_1.*', 'projector.fc1.*'),
        ('linear_2.*', 'projector.fc2.*'),
        ('0.*', 'projector.fc1.*'),
        ('2.*', 'projector.fc2.*'),
        ('*', 'projector.fc1.*'),
    ))
_VISION = (r'(?:model\.)?(?:vision_tower\.)+(?:backbone\.model\.)?'
           r'(?:vision_model\.)?', hf_clip.VISION_ROWS)
_OUR_VISION = (r'vision_tower\.backbone\.', mmpretrain.ROWS)
_TEXT = (r'(?:model\.)?(?:language_model\.)?(?:model\.)?', llama.ROWS)

_NEEDS = ('layers.0.q.weight', 'projector.fc1.weight')

LLAVA = Dialect(
    'LLaVA', (Tower('vision', (_OUR_VISION, _VISION, _PROJECTOR),
                    _NEEDS), Tower('text', (_TEXT, _PROJECTOR), _NEEDS),
              Tower('projector', (_PROJECTOR, ), ('projector.fc1.weight', ))),
    example='model.language_model.layers.0.self_attn.q_proj.weight',
    ignored=(r'(?:.*\.)?position_ids', r'(?:model\.)?image_newline',
             'vocabulary', r'(?:fusion|distiller|data_preprocessor)\..*',
             *llama.IGNORED))
