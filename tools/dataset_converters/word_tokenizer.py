"""Make a tokenizer with one token a word of a training set of questions.

For small models trained from scratch, on easy-VQA or DAQUAR for example. The
folder has the form of Transformers' fast tokenizers; give it as `tokenizer`
in configs. Words that only other splits have become <unk>.
"""
import argparse
from typing import Iterator

from mmengine.config import DictAction
from mmpretrain.registry import DATASETS

import transmamba_mm  # noqa: F401
from transmamba_mm.datasets.vqa import build_word_tokenizer
from transmamba_mm.utils.launch import load_config


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'config', help='config with the training set (train_dataloader)')
    parser.add_argument('folder', help='folder to write')
    parser.add_argument(
        '--min-count', type=int, default=1, help='rarer words are left out')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    return parser.parse_args()


def texts(dataset) -> Iterator[str]:
    """Give the texts of a data set.

    Args:
        dataset (BaseDataset): With questions and answers, or conversations.

    Yields:
        str: A text.
    """
    for i in range(len(dataset)):
        info = dataset.get_data_info(i)
        yield from (text for _, text in info.get('conversations', ()))
        if 'question' in info:
            yield info['question']
            answer = info.get('gt_answer', '')
            yield from [answer] if isinstance(answer, str) else answer


def main() -> None:
    args = parse_args()
    cfg = load_config(args.config)
    cfg.merge_from_dict(args.cfg_options or {})
    train = dict(cfg.train_dataloader.dataset, pipeline=[], fraction=1.0)
    tokenizer = build_word_tokenizer(
        texts(DATASETS.build(train)), args.folder, args.min_count)
    print(f'{args.folder}: {len(tokenizer)} tokens')


if __name__ == '__main__':
    main()
