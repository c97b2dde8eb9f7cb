"""Names and shapes of the official models' weights, written down by us."""
import torch

STATES = 16


def fill(shapes, seed=0):
    """Make a state dict of random values."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator)
        for name, shape in shapes.items()
    }


def linear(name, rows, columns, bias=True):
    shapes = {f'{name}.weight': (rows, columns)}
    return dict(shapes, **{f'{name}.bias': (rows, )}) if bias else shapes


def norm(name, width):
    return {f'{name}.weight': (width, ), f'{name}.bias': (width, )}


def batch_norm(name, width):
    stats = {f'{name}.running_{k}': (width, ) for k in ('mean', 'var')}
    return {**norm(name, width), **stats, f'{name}.num_batches_tracked': ()}


def bidirectional(width=32, depth=2, positions=197, classes=10, patch=16):
    """Vim, and VideoMamba for images: the same in both."""
    inner, rank = 2 * width, -(-width // 16)
    shapes = {
        'cls_token': (1, 1, width),
        'pos_embed': (1, positions, width),
        'patch_embed.proj.weight': (width, 3, patch, patch),
        'patch_embed.proj.bias': (width, ),
        'norm_f.weight': (width, ),
    }
    for i in range(depth):
        shapes[f'layers.{i}.norm.weight'] = (width, )
        mixer = f'layers.{i}.mixer'
        shapes.update(linear(f'{mixer}.in_proj', 2 * inner, width, False))
        shapes.update(linear(f'{mixer}.out_proj', width, inner, False))
        for b in ('', '_b'):
            shapes[f'{mixer}.A{b}_log'] = (inner, STATES)
            shapes[f'{mixer}.D{b}'] = (inner, )
            shapes[f'{mixer}.conv1d{b}.weight'] = (inner, 1, 4)
            shapes[f'{mixer}.conv1d{b}.bias'] = (inner, )
            shapes[f'{mixer}.x_proj{b}.weight'] = (rank + 2 * STATES, inner)
            shapes.update(linear(f'{mixer}.dt_proj{b}', inner, rank))
    return {**shapes, **linear('head', classes, width)}


def video(frames=4, tubelet=2, **kwargs):
    """VideoMamba for clips."""
    shapes = bidirectional(**kwargs)
    width, _, *patch = shapes['patch_embed.proj.weight']
    shapes['patch_embed.proj.weight'] = (width, 3, tubelet, *patch)
    shapes['temporal_pos_embedding'] = (1, frames // tubelet, width)
    return shapes


def plainmamba(width=32, depth=2, convs=2, dw=(), classes=10):
    """PlainMamba, as MMClassification saves it."""
    inner, rank = 2 * width, -(-width // 16)
    shapes = {
        'pos_embed': (1, 196, width),
        'patch_embed.stem.0.weight': (64, 3, 7, 7),
        **batch_norm('patch_embed.stem.1', 64),
        'patch_embed.projection.weight': (width, 64, 8, 8),
        'patch_embed.projection.bias': (width, ),
        **norm('ln1', width),
    }
    for i in range(convs):
        shapes[f'patch_embed.convs.{3 * i}.weight'] = (64, 64, 3, 3)
        shapes.update(batch_norm(f'patch_embed.convs.{3 * i + 1}', 64))
    for i in range(depth):
        mixer = f'layers.{i}.mamba'
        shapes.update(norm(f'layers.{i}.norm', width))
        shapes.update(linear(f'{mixer}.in_proj', 2 * inner, width))
        shapes.update(linear(f'{mixer}.out_proj', width, inner))
        shapes.update(linear(f'{mixer}.dt_proj', inner, rank))
        shapes[f'{mixer}.conv2d.weight'] = (inner, 1, 7, 7)
        shapes[f'{mixer}.conv2d.bias'] = (inner, )
        shapes[f'{mixer}.x_proj.weight'] = (rank + 2 * STATES, inner)
        shapes[f'{mixer}.A_log'] = (inner, STATES)
        shapes[f'{mixer}.D'] = (inner, )
        shapes[f'{mixer}.direction_Bs'] = (5, STATES)
        if i in dw:
            shapes[f'layers.{i}.dw.0.weight'] = (width, 1, 3, 3)
            shapes.update(batch_norm(f'layers.{i}.dw.1', width))
    shapes = {f'backbone.{k}': v for k, v in shapes.items()}
    return {**shapes, **linear('head.fc', classes, width)}


def vmamba(width=32, depths=(1, 1, 2, 1), first=False, expand=1, classes=10):
    """VMamba under the names of the second release.

    ``first`` makes the first model (gate, 16 states, no MLP).
    """
    states, expand = (16, 2) if first else (1, expand)
    shapes = {'patch_embed.0.bias': (width if first else width // 2, )}
    if first:
        shapes['patch_embed.0.weight'] = (width, 3, 4, 4)
        shapes.update(norm('patch_embed.2', width))
    else:
        shapes['patch_embed.0.weight'] = (width // 2, 3, 3, 3)
        shapes.update(norm('patch_embed.2', width // 2))
        shapes['patch_embed.5.weight'] = (width, width // 2, 3, 3)
        shapes['patch_embed.5.bias'] = (width, )
        shapes.update(norm('patch_embed.7', width))
    for i, depth in enumerate(depths):
        dims = width * 2**i
        for j in range(depth):
            shapes.update(
                _vmamba_block(f'layers.{i}.blocks.{j}', dims, states, expand,
                              first))
        if i < len(depths) - 1:
            shapes.update(_downsample(f'layers.{i}.downsample', dims, first))
    shapes.update(norm('classifier.norm', dims))
    return {**shapes, **linear('classifier.head', classes, dims)}


def _vmamba_block(name, dims, states, expand, first):
    inner, rank = expand * dims, -(-dims // 16)
    shapes = {
        **norm(f'{name}.norm', dims),
        **linear(f'{name}.op.in_proj', (1 + first) * inner, dims, False),
        **linear(f'{name}.op.out_proj', dims, inner, False),
        **norm(f'{name}.op.out_norm', inner),
        f'{name}.op.conv2d.weight': (inner, 1, 3, 3),
        f'{name}.op.x_proj_weight': (4, rank + 2 * states, inner),
        f'{name}.op.dt_projs_weight': (4, inner, rank),
        f'{name}.op.dt_projs_bias': (4, inner),
        f'{name}.op.A_logs': (4 * inner, states),
        f'{name}.op.Ds': (4 * inner, ),
    }
    if first:
        return {**shapes, f'{name}.op.conv2d.bias': (inner, )}
    shapes.update(norm(f'{name}.norm2', dims))
    shapes.update(linear(f'{name}.mlp.fc1', 4 * dims, dims))
    return {**shapes, **linear(f'{name}.mlp.fc2', dims, 4 * dims)}


def _downsample(name, dims, first):
    if first:
        merge = linear(f'{name}.2', 2 * dims, 4 * dims, False)
        return {**norm(f'{name}.1', 4 * dims), **merge}
    return {
        f'{name}.1.weight': (2 * dims, dims, 3, 3),
        f'{name}.1.bias': (2 * dims, ),
        **norm(f'{name}.3', 2 * dims)
    }


def first_names(state):
    """Rename VMamba's weights to those of the first release."""
    pairs = (('patch_embed.0.', 'patch_embed.proj.'), ('patch_embed.2.',
                                                       'patch_embed.norm.'),
             ('.op.', '.self_attention.'), ('downsample.1.',
                                            'downsample.norm.'),
             ('downsample.2.', 'downsample.reduction.'), ('classifier.', ''))
    renamed = {}
    for name, value in state.items():
        for new, old in pairs:
            name = name.replace(new, old)
        parts = name.split('.')
        if parts[0] == 'layers' and parts[4:5] == ['norm']:
            parts[4] = 'ln_1'
        renamed['.'.join(parts)] = value
    return renamed


def current_names(state):
    """Rename and flatten VMamba's weights as the current code has them."""
    renamed = {}
    for name, value in state.items():
        if name.endswith(('x_proj_weight', 'dt_projs_weight')):
            name = name[:-len('_weight')] + '.weight'
            value = value.reshape(-1, value.shape[-1])
        renamed[name] = value
    return renamed


def channel_first(state):
    """Store VMamba's linear layers as 1 x 1 convolutions."""
    linear_names = ('in_proj.weight', 'out_proj.weight', 'fc1.weight',
                    'fc2.weight')
    return {
        k: v[..., None, None] if k.endswith(linear_names) else v
        for k, v in state.items()
    }
