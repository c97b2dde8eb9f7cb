"""A toy task in words: which quadrant of the image is bright?"""
import torch
from mmpretrain.structures import DataSample

from transmamba_mm.datasets.vqa import (IMAGE_TOKEN_INDEX,
                                        build_word_tokenizer, get_template,
                                        load_text_tokenizer,
                                        tokenize_conversation)
from transmamba_mm.registry import MODELS
from .toy_language import CONFIGS

QUESTION = 'which corner is bright?'
ANSWERS = ('top left', 'top right', 'bottom left', 'bottom right')
VIM = dict(
    type='transmamba_mm.VisionMamba',
    arch=dict(embed_dims=24, num_layers=2, d_state=4),
    img_size=16,
    patch_size=8)
NORMALISE = dict(mean=[120.] * 3, std=[60.] * 3)


def make_tokenizer(folder):
    build_word_tokenizer([QUESTION, *ANSWERS, 'please'], str(folder))
    return load_text_tokenizer(str(folder))


def model_cfg(tokenizer, kind='mamba', language=None, **kwargs):
    """Config of a small model; ``language`` are further arguments."""
    config = dict(CONFIGS[kind], model_type=kind, vocab_size=len(tokenizer))
    return dict(
        type='transmamba_mm.TransLlava',
        vision_tower=dict(backbone=dict(VIM)),
        language_model=dict(config=config, **(language or {})),
        tokenizer=tokenizer.name_or_path,
        data_preprocessor=dict(NORMALISE),
        **kwargs)


def build(tokenizer, *args, **kwargs):
    torch.manual_seed(0)
    model = MODELS.build(model_cfg(tokenizer, *args, **kwargs))
    model.init_weights()
    return model


def make_sample(tokenizer, answer, extra='', for_answer=False, question=None):
    """An image whose quadrant number ``answer`` is bright, and its text."""
    generator = torch.Generator().manual_seed(answer)
    image = torch.randint(0, 120, (3, 16, 16), generator=generator)
    row, column = divmod(answer, 2)
    image[:, 8 * row:8 * row + 8, 8 * column:8 * column + 8] += 130
    turns = [('human', f'<image>\n{question or QUESTION}{extra}')]
    if not for_answer:
        turns.append(('gpt', ANSWERS[answer]))
    tokens = tokenize_conversation(turns, get_template('short'), tokenizer)
    sample = DataSample()
    sample.set_field(torch.tensor(tokens.input_ids), 'input_ids')
    if not for_answer:
        sample.set_field(torch.tensor(tokens.labels), 'labels')
    sample.set_field(ANSWERS[answer], 'gt_answer', dtype=str)
    return dict(inputs=image.to(torch.uint8), data_samples=sample)


def make_batch(model,
               answers=(0, 1, 2, 3),
               extras=('', ' please', '', ''),
               **kwargs):
    """A batch of texts of two lengths, ready for ``forward``."""
    samples = [
        make_sample(model.tokenizer, a, e, **kwargs)
        for a, e in zip(answers, extras)
    ]
    return collate(model, samples)


def collate(model, samples):
    return model.data_preprocessor(
        dict(
            inputs=[s['inputs'] for s in samples],
            data_samples=[s['data_samples'] for s in samples]))


def image_places(ids):
    return (ids == IMAGE_TOKEN_INDEX).nonzero().flatten().tolist()
