"""Answer questions about an image.

    python tools/answer.py CONFIG CHECKPOINT cat.jpg 'what colour is the cat?'
"""
import argparse
import os.path as osp
import sys
from typing import List

from mmengine.config import Config, DictAction
from mmpretrain import VisualQuestionAnsweringInferencer
from mmpretrain.utils import progress

import transmamba_mm  # noqa: F401  (safe loading)
from transmamba_mm.utils.launch import load_config


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config of a TransLlava')
    parser.add_argument('checkpoint', help='its trained weights')
    parser.add_argument('image', help='image file')
    parser.add_argument('questions', nargs='+', help='one or more questions')
    parser.add_argument('--device', help='such as cpu or cuda:0')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='overrides such as model.generation_cfg.num_beams=4')
    args = parser.parse_args()
    for path in (args.config, args.checkpoint, args.image):
        if not osp.exists(path):
            parser.error(f"there is no file '{path}'")
    return args


def read_config(args: argparse.Namespace) -> Config:
    """Read the config; model and questions get the same tokenizer."""
    cfg = load_config(args.config)
    cfg.merge_from_dict(args.cfg_options or {})
    for step in cfg.test_dataloader.dataset.pipeline:
        if 'tokenizer' in step:
            step.tokenizer = cfg.model.tokenizer
    return cfg


def answer(args: argparse.Namespace) -> List[str]:
    """Return one answer a question."""
    ask = VisualQuestionAnsweringInferencer(
        read_config(args), pretrained=args.checkpoint, device=args.device)
    # a bar's line would run into the first answer
    progress.disable_progress_bar = True
    results = ask([args.image] * len(args.questions), args.questions)
    return [result['pred_answer'] for result in results]


def main() -> None:
    args = parse_args()
    try:
        answers = answer(args)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f'answer.py: {error}')
    for question, text in zip(args.questions, answers):
        print(f'{question} {text}')


if __name__ == '__main__':
    main()
