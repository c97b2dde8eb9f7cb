"""Hugging Face's CLIP, one tower or both."""
from .dialect import Dialect, Tower

_BLOCK = tuple((f'encoder.layers.{{i}}.{theirs}.*', f'layers.{{i}}.{ours}.*')
               for theirs, ours in (
                   ('layer_norm1', 'norm1'),
                   ('layer_norm2', 'norm2'),
                   ('self_attn.q_proj', 'q'),
                   ('self_attn.k_proj', 'k'),
                   ('self_attn.v_proj', 'v'),
                   ('self_attn.out_proj', 'o'),
                   ('mlp.fc1', 'fc1'),
                   ('mlp.fc2', 'fc2'),
               ))

VISION_ROWS = _BLOCK + (
    ('embeddings.patch_embedding.*', 'patch_embed.*'),
    ('embeddings.class_embedding', 'cls_token', 'token'),
    ('embeddings.position_embedding.weight', 'pos_embed', 'tokens'),
    # the library's own spelling
    ('pre_layrnorm.*', 'pre_norm.*'),
    ('pre_layernorm.*', 'pre_norm.*'),
    ('post_layernorm.*', 'final_norm.*'),
)
_TEXT_ROWS = _BLOCK + (
    ('embeddings.token_embedding.weight', 'token_embed.weight'),
    ('embeddings.position_embedding.weight', 'text_pos_embed', 'tokens'),
    ('final_layer_norm.*', 'final_norm.*'),
)
_LOGITS = (('logit_scale', 'logit_scale'), ('logit_bias', 'logit_bias'))
_TOP = r'(?:module\.)?(?:clip\.)?'

HF_CLIP = Dialect(
    'Hugging Face CLIP',
    (Tower(
        'vision',
        ((_TOP + r'(?:vision_model\.)?', VISION_ROWS),
         (_TOP, _LOGITS + (('visual_projection.weight', 'projection.weight'),
                           ('classifier.*', 'head.*')))),
        needs=('layers.0.q.weight', 'patch_embed.weight')),
     Tower(
         'text', ((_TOP + r'(?:text_model\.)?', _TEXT_ROWS),
                  (_TOP, _LOGITS +
                   (('text_projection.weight', 'projection.weight'), ))),
         needs=('layers.0.q.weight', 'token_embed.weight'))),
    example='vision_model.encoder.layers.0.self_attn.q_proj.weight',
    ignored=(r'(?:.*\.)?position_ids', ))
