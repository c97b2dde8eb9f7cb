"""A few small images with questions, and tokenizers made on the spot."""
import json

import cv2
import numpy as np
from tokenizers import (Tokenizer, decoders, models, pre_tokenizers,
                        processors, trainers)
from transformers import PreTrainedTokenizerFast

from transmamba_mm.datasets.vqa import build_word_tokenizer

TURNS = [
    dict(**{'from': 'human'}, value='What is\nthis? <image>'),
    dict(**{'from': 'gpt'}, value='A red circle.'),
    dict(**{'from': 'human'}, value='Is it big?'),
    dict(**{'from': 'gpt'}, value='no'),
]
TEXTS = [turn['value'] for turn in TURNS] + [
    'A chat between a curious user and an artificial intelligence assistant. '
    "The assistant gives helpful, detailed, and polite answers to the user's "
    'questions. USER: ASSISTANT:'
]


def llama_like():
    """Spaces become part of the next word, a start mark comes first."""
    backend = Tokenizer(models.BPE(unk_token='<unk>'))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme='always')
    backend.decoder = decoders.Metaspace(prepend_scheme='always')
    backend.train_from_iterator(
        TEXTS * 3,
        trainers.BpeTrainer(
            vocab_size=300, special_tokens=['<unk>', '<s>', '</s>']))
    backend.post_processor = processors.TemplateProcessing(
        single='<s> $A', special_tokens=[('<s>', 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token='<unk>',
        bos_token='<s>',
        eos_token='</s>',
        clean_up_tokenization_spaces=False)


def neox_like():
    """Byte-level, without a start mark, one mark for start and end."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator(
        TEXTS * 3,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=['<|endoftext|>'],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token='<|endoftext|>',
        eos_token='<|endoftext|>',
        clean_up_tokenization_spaces=False)


def words_like():
    """Our own, one token a word."""
    return build_word_tokenizer(TEXTS)


def write_images(folder, count=3):
    """Write small images of different sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        image = np.full((8 + i, 10, 3), 40 * i, np.uint8)
        cv2.imwrite(str(folder / f'{i}.png'), image)


def write_easy_vqa(root):
    """Write a small copy of easy-VQA's data folder."""
    questions = [('what is the shape?', 'circle', 0),
                 ('what color is the shape?', 'red', 0),
                 ('is there a circle?', 'yes', 1),
                 ('is there a red shape?', 'no', 2)]
    for split in ('train', 'test'):
        write_images(root / split / 'images')
        (root / split / 'questions.json').write_text(json.dumps(questions))
