"""Similarity (linear CKA) of every student layer to every teacher layer."""
import argparse
import os.path as osp

from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope
from mmpretrain.apis import get_model
from mmpretrain.registry import MODELS
from picture_parts.inputs import image_batches, image_size

import transmamba_mm  # noqa: F401  (before torchvision is imported)
from transmamba_mm.engine.hooks.subclone_inputs import find_teacher_config
from transmamba_mm.models import FrozenTeacher
from transmamba_mm.models.distillers.cka import measure_cka, pick_layers
from transmamba_mm.utils.cka_report import save_cka
from transmamba_mm.utils.launch import load_config


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('student', help='config of the student')
    parser.add_argument(
        'teacher',
        nargs='?',
        help="config of the teacher, name in MMPretrain's zoo, or a folder "
        "of Transformers; default: the teacher of the student's config")
    parser.add_argument('--student-checkpoint', help='default: random weights')
    parser.add_argument(
        '--teacher-checkpoint', help="weights of an MMPretrain teacher")
    parser.add_argument(
        '--images',
        help='folder of images; default: validation images of the config')
    parser.add_argument('--num-images', type=int, default=64)
    parser.add_argument('--device', default='cpu')
    parser.add_argument(
        '--out',
        default='.',
        help='folder for layer_cka.png and layer_cka.json')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, default={})
    args = parser.parse_args()
    if args.teacher is not None and not osp.isdir(args.teacher) and \
            args.teacher_checkpoint is None:
        parser.error('--teacher-checkpoint is needed: the weights of '
                     f'{args.teacher}')
    return args


def build_teacher(cfg: Config, args: argparse.Namespace) -> FrozenTeacher:
    """Build the teacher that the command line or the config names."""
    if args.teacher is None:
        teacher = find_teacher_config(cfg)
    elif osp.isdir(args.teacher):
        teacher = dict(type='transmamba_mm.HFTeacher', pretrained=args.teacher)
    else:
        teacher = dict(
            type='transmamba_mm.MMPretrainTeacher',
            config=args.teacher,
            checkpoint=args.teacher_checkpoint)
    return MODELS.build(teacher).to(args.device)


def main() -> None:
    args = parse_args()
    cfg = load_config(args.student)
    cfg.merge_from_dict(args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    teacher = build_teacher(cfg, args)
    # a fresh distiller, which knows how to compare any two models
    cfg.model.type = 'transmamba_mm.DistillClassifier'
    cfg.model.distiller = dict(
        type='transmamba_mm.BidirectionalDistiller',
        teacher_dims=teacher.embed_dims,
        teacher_depth=teacher.depth,
        features='block',
        aligner=dict(mode='zero_pad'))
    model = get_model(
        cfg, pretrained=args.student_checkpoint or False,
        device=args.device).eval()
    model.attach_teacher(teacher)
    batches = image_batches(cfg, args.images, image_size(model),
                            args.num_images, 16)
    matrix = measure_cka(model, teacher, batches)
    save_cka(matrix, pick_layers(matrix), args.out)
    print(f'Saved {osp.join(args.out, "layer_cka.png")}')


if __name__ == '__main__':
    main()
