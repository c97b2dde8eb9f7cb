"""Where the teacher comes from."""
import os.path as osp
from dataclasses import dataclass, field
from pathlib import Path
from typing import List, Optional, Sequence

from quickstart_parts.runs import trained_teacher

#: Channels of a head where nothing tells, as in all DeiTs and most ViTs.
HEAD_CHANNELS = 64
#: Where the arguments of --teacher are explained.
HELP = 'see --teacher in docs/poc.md'


@dataclass
class Teacher:
    """A teacher that is ready.

    Args:
        title (str): Shown to the user.
        weights (str): File or folder that is cloned.
        config (dict): Of a ``FrozenTeacher``.
        embed_dims (int): Width.
        depth (int): Layers.
        num_classes (int, optional): Of its head.
        notes (List[str]): What was assumed.
    """
    title: str
    weights: str
    config: dict
    embed_dims: int
    depth: int
    num_classes: Optional[int] = None
    notes: List[str] = field(default_factory=list)

    def hooks(self) -> dict:
        """Return what a training needs to know of it.

        Returns:
            dict: ``weights``, ``teacher``, ``embed_dims`` and ``depth``.
        """
        return dict(
            weights=self.weights,
            teacher=self.config,
            embed_dims=self.embed_dims,
            depth=self.depth)


def open_teacher(config: dict, title: str, weights: str,
                 notes: Sequence[str]) -> Teacher:
    """Build a teacher once, to see that it works and what it is.

    Args:
        config (dict): Of a ``FrozenTeacher``.
        title (str): Shown to the user.
        weights (str): File or folder that is cloned.
        notes (Sequence[str]): What was assumed.

    Returns:
        Teacher: The teacher.

    Raises:
        SystemExit: If it cannot be built.
    """
    try:
        built = build(config)
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        raise SystemExit(f'--teacher {weights}: {error}') from error
    if built.takes_text:
        raise SystemExit(f'--teacher {weights} reads texts; a teacher of '
                         f'images is needed, {HELP}.')
    return Teacher(f'{title} ({built.describe()})', weights,
                   config, built.embed_dims, built.depth, built.num_classes,
                   list(notes))


def build(config: dict):
    """Build a teacher.

    Args:
        config (dict): Of a ``FrozenTeacher``.

    Returns:
        FrozenTeacher: The teacher.
    """
    from mmengine.registry import DefaultScope
    from mmpretrain.registry import MODELS
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(dict(config))


def from_run(checkpoint: Path) -> Teacher:
    """Take the teacher that was trained here.

    Args:
        checkpoint (Path): Its checkpoint, beside its config.

    Returns:
        Teacher: The teacher.
    """
    return open_teacher(
        trained_teacher(checkpoint), 'trained here', str(checkpoint), ())


def from_files(files: Sequence[str]) -> Teacher:
    """Take a ready teacher.

    Args:
        files (Sequence[str]): FILE, or CONFIG and CHECKPOINT.

    Returns:
        Teacher: The teacher.

    Raises:
        SystemExit: If the files cannot teach; says why.
    """
    path = str(Path(files[-1]).expanduser())
    if not osp.exists(path):
        raise SystemExit(f'--teacher {files[-1]}: there is no such file or '
                         f'folder; {HELP}.')
    path = osp.abspath(path)
    if len(files) == 2:
        config = files[0]
        if config.endswith('.py'):
            config = osp.abspath(osp.expanduser(config))
        return open_teacher(
            dict(
                type='transmamba_mm.MMPretrainTeacher',
                config=config,
                checkpoint=path),
            Path(path).name, path, ())
    from transmamba_mm.subclone import read_teacher
    try:
        state = read_teacher(path)
    except (ValueError, OSError) as error:
        raise SystemExit(f'--teacher {path}: {error}') from error
    if state.info.tower != 'vision':
        raise SystemExit(f'--teacher {path} holds no image tower, but '
                         f'{state.info.towers}; {HELP}.')
    notes: List[str] = []
    config = guess_config(path, state, notes)
    return open_teacher(config, f'{state.info.dialect} weights', path, notes)


def guess_config(path: str, state, notes: List[str]) -> dict:
    """Find the teacher's config by its weights.

    Args:
        path (str): File or folder.
        state (TeacherState): Its tensors.
        notes (List[str]): Gets what had to be assumed.

    Returns:
        dict: Of a ``FrozenTeacher``.

    Raises:
        SystemExit: If the weights do not tell enough.
    """
    dialect = state.info.dialect
    if dialect in ('mmpretrain', 'timm'):
        shape = vit_shape(state, notes)
        model = timm_vit(shape, timm_name(state))
        if dialect == 'mmpretrain':
            model = mmpretrain_vit(shape, head_type(path))
        if state.info.mean is None:
            notes.append('The teacher\'s file does not tell how images were '
                         'normalised; ImageNet\'s mean and deviation are '
                         'assumed.')
        return dict(
            type='transmamba_mm.MMPretrainTeacher',
            config=model,
            checkpoint=path)
    if dialect == 'open_clip':
        folder = Path(path)
        is_folder = (folder / 'open_clip_config.json').is_file()
        name = path if is_folder else open_clip_name(state)
        return dict(
            type='transmamba_mm.OpenCLIPTeacher',
            model_name=name,
            pretrained=None if is_folder else path)
    if not Path(path).is_dir():
        raise SystemExit(f'--teacher {path}: weights of {dialect} need their '
                         'folder with config.json; give the folder.')
    tower = 'vision' if len(state.info.towers) > 1 else None
    return dict(type='transmamba_mm.HFTeacher', pretrained=path, tower=tower)


def vit_shape(state, notes: List[str]) -> dict:
    """Read a ViT's architecture off its tensors.

    Args:
        state (TeacherState): The tensors.
        notes (List[str]): Gets what had to be assumed.

    Returns:
        dict: ``dims``, ``depth``, ``heads``, ``hidden``, ``patch``, ``size``
        and ``classes`` (0 without a head).
    """
    from transmamba_mm.subclone import num_layers
    dims, _, patch, _ = state.shape('patch_embed.weight')
    heads = state.info.num_heads
    if heads is None:
        heads = max(1, dims // HEAD_CHANNELS)
        notes.append(
            f'The teacher\'s file does not tell its number of heads; {heads} '
            f'heads of {dims // heads} channels are assumed. If that is '
            'wrong, its accuracy is low: give CONFIG CHECKPOINT instead.')
    tokens = state.shape('pos_embed')[1]
    extra = sum(name in state for name in ('cls_token', 'dist_token'))
    head = state.shape('head.weight') if 'head.weight' in state else (0, )
    return dict(
        dims=dims,
        depth=num_layers(state),
        heads=heads,
        hidden=state.shape('layers.0.fc1.weight')[0],
        patch=patch,
        size=patch * round((tokens - extra)**0.5),
        classes=head[0])


def head_type(path: str) -> str:
    """Tell MMPretrain's heads apart by the names of their tensors.

    Args:
        path (str): Weights file.

    Returns:
        str: Type of the head.
    """
    from transmamba_mm.utils.weight_files import open_weights
    linear = any('head.fc.' in name for name in open_weights(path))
    return 'LinearClsHead' if linear else 'VisionTransformerClsHead'


def mmpretrain_vit(shape: dict, head: str) -> dict:
    """Return MMPretrain's config of a ViT.

    Args:
        shape (dict): See :func:`vit_shape`.
        head (str): Type of its head.

    Returns:
        dict: Of a classifier, whose images are normalised as ImageNet's.
    """
    classes = shape['classes']
    head = dict(type=head, num_classes=classes, in_channels=shape['dims'])
    return dict(
        type='ImageClassifier',
        data_preprocessor=dict(
            mean=[123.675, 116.28, 103.53],
            std=[58.395, 57.12, 57.375],
            to_rgb=True),
        backbone=dict(
            type='VisionTransformer',
            arch=dict(
                embed_dims=shape['dims'],
                num_layers=shape['depth'],
                num_heads=shape['heads'],
                feedforward_channels=shape['hidden']),
            img_size=shape['size'],
            patch_size=shape['patch']),
        head=head if classes else None)


def timm_name(state) -> str:
    """Choose the network of timm's that treats images as the file's does.

    Args:
        state (TeacherState): The tensors.

    Returns:
        str: Name; its sizes do not matter.
    """
    if 'dist_token' in state:
        return 'deit_base_distilled_patch16_224'
    mean = state.info.mean
    # timm's ViTs take a half off each channel, DeiTs ImageNet's mean
    half = mean is not None and all(abs(m - 0.5) < 1e-3 for m in mean)
    return 'vit_base_patch16_224' if half else 'deit_base_patch16_224'


def timm_vit(shape: dict, name: str) -> dict:
    """Return the config of timm's ViT in MMPretrain's wrapper.

    Args:
        shape (dict): See :func:`vit_shape`.
        name (str): See :func:`timm_name`.

    Returns:
        dict: Of a classifier.
    """
    return dict(
        type='TimmClassifier',
        model_name=name,
        embed_dim=shape['dims'],
        depth=shape['depth'],
        num_heads=shape['heads'],
        mlp_ratio=shape['hidden'] / shape['dims'],
        patch_size=shape['patch'],
        img_size=shape['size'],
        num_classes=shape['classes'])


def open_clip_name(state) -> str:
    """Find the architecture of open_clip that has such an image tower.

    Args:
        state (TeacherState): The tensors.

    Returns:
        str: Name.

    Raises:
        SystemExit: If there is none.
    """
    import open_clip

    from transmamba_mm.subclone import num_layers
    dims, _, patch, _ = state.shape('patch_embed.weight')
    wanted = (dims, num_layers(state), patch)
    names = []
    for name in open_clip.list_models():
        vision = open_clip.get_model_config(name)['vision_cfg']
        if isinstance(vision, dict) and wanted == tuple(
                vision.get(key) for key in ('width', 'layers', 'patch_size')):
            names.append(name)
    if names:  # the plain one has the shortest name
        return min(names, key=len)
    raise SystemExit(
        'open_clip has no image tower of width {}, {} layers and patches of '
        '{}; give a folder with open_clip_config.json.'.format(*wanted))
