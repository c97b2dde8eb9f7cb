"""Hugging Face's ViT, DeiT and DINOv2, in both generations of names."""
from .dialect import Dialect, Tower

_EMBEDDINGS = (
    ('embeddings.patch_embeddings.projection.*', 'patch_embed.*'),
    ('embeddings.cls_token', 'cls_token'),
    ('embeddings.distillation_token', 'dist_token'),
    ('embeddings.position_embeddings', 'pos_embed'),
    ('layernorm.*', 'final_norm.*'),
    ('classifier.*', 'head.*'),
    ('cls_classifier.*', 'head.*'),
    ('distillation_classifier.*', 'head_dist.*'),
)


def _block(path: str) -> tuple:
    """Rows of a block; v4 and v5 share the norms only."""
    v4 = (
        ('attention.attention.query.*', 'q.*'),
        ('attention.attention.key.*', 'k.*'),
        ('attention.attention.value.*', 'v.*'),
        ('attention.output.dense.*', 'o.*'),
        ('intermediate.dense.*', 'fc1.*'),
        ('output.dense.*', 'fc2.*'),
    )
    v5 = (
        ('attention.q_proj.*', 'q.*'),
        ('attention.k_proj.*', 'k.*'),
        ('attention.v_proj.*', 'v.*'),
        ('attention.o_proj.*', 'o.*'),
        ('mlp.fc1.*', 'fc1.*'),
        ('mlp.fc2.*', 'fc2.*'),
    )
    norms = (
        ('layernorm_before.*', 'norm1.*'),
        ('layernorm_after.*', 'norm2.*'),
    )
    dinov2 = (
        ('norm1.*', 'norm1.*'),
        ('norm2.*', 'norm2.*'),
        ('layer_scale1.lambda1', 'scale1'),
        ('layer_scale2.lambda1', 'scale2'),
    )
    return tuple((f'{path}.{theirs}', 'layers.{i}.' + ours)
                 for theirs, ours in v4 + v5 + norms + dinov2)


ROWS = _EMBEDDINGS + _block('encoder.layer.{i}') + _block('layers.{i}')

HF_VIT = Dialect(
    'Hugging Face ViT', (Tower('vision',
                               ((r'(?:module\.)?(?:model\.)?'
                                 r'(?:vit\.|deit\.|dinov2\.)?', ROWS), )), ),
    example='vit.encoder.layer.0.attention.attention.query.weight',
    ignored=(r'(?:.*\.)?pooler\..*', r'(?:.*\.)?mask_token', r'decoder\..*'))
