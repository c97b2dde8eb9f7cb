"""Whole runs: train, validate, resume in adapters, ask from Python."""
import json

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmpretrain import VisualQuestionAnsweringInferencer

from transmamba_mm.registry import MODELS
from .toy_llava import ANSWERS, QUESTION, make_tokenizer, model_cfg


@pytest.fixture
def folder(tmp_path):
    """Four images of bright quadrants and their questions."""
    rng, lines = np.random.default_rng(0), []
    for i, answer in enumerate(ANSWERS * 2):
        image = rng.integers(0, 120, (16, 16, 3), dtype=np.uint8)
        row, column = divmod(i % 4, 2)
        image[8 * row:8 * row + 8, 8 * column:8 * column + 8] += 130
        cv2.imwrite(str(tmp_path / f'{i}.png'), image)
        lines.append(
            dict(
                id=str(i),
                image=f'{i}.png',
                conversations=[
                    {
                        'from': 'human',
                        'value': f'<image>\n{QUESTION}'
                    },
                    {
                        'from': 'gpt',
                        'value': answer
                    },
                ]))
    (tmp_path / 'train.json').write_text(json.dumps(lines))
    return tmp_path


def loader(folder, tokenizer, for_answer):
    return dict(
        batch_size=4,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(
            type='transmamba_mm.LlavaInstructDataset',
            ann_file=str(folder / 'train.json'),
            data_prefix=dict(img_path=str(folder)),
            pipeline=[
                dict(type='transmamba_mm.LoadImage'),
                dict(
                    type='transmamba_mm.TokenizeConversation',
                    tokenizer=tokenizer.name_or_path,
                    template='short',
                    for_answer=for_answer),
                dict(type='transmamba_mm.PackConversation')
            ]))


def make_runner(folder, work_dir, epochs=1, **model):
    tokenizer = make_tokenizer(folder / 'tokenizer')
    test = loader(folder, tokenizer, True)
    evaluator = dict(type='transmamba_mm.VQAAnswerMetric')
    return Runner.from_cfg(
        Config(
            dict(
                model=model_cfg(tokenizer, **model),
                work_dir=str(work_dir),
                train_dataloader=loader(folder, tokenizer, False),
                train_cfg=dict(
                    by_epoch=True, max_epochs=epochs, val_interval=epochs),
                val_dataloader=test,
                val_cfg=dict(),
                val_evaluator=evaluator,
                test_dataloader=test,
                test_cfg=dict(),
                test_evaluator=evaluator,
                optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-2)),
                default_hooks=dict(
                    checkpoint=dict(type='CheckpointHook', interval=epochs)),
                randomness=dict(seed=0),
                default_scope='mmpretrain',
                experiment_name=f'llava_{torch.rand(1).item()}')))


def test_train_validate_and_ask(folder):
    runner = make_runner(folder, folder / 'run', epochs=30, freeze=())
    runner.train()
    assert runner.message_hub.get_scalar('val/vqa/acc').current() == 100
    model = MODELS.build(runner.cfg.model)
    saved = torch.load(folder / 'run' / 'epoch_30.pth', weights_only=False)
    model.load_state_dict(saved['state_dict'])
    model._config = runner.cfg
    ask = VisualQuestionAnsweringInferencer(model)
    images = [str(folder / f'{i}.png') for i in range(4)]
    answers = ask(images, [QUESTION] * 4, batch_size=3)
    assert answers == [
        dict(question=QUESTION, pred_answer=answer) for answer in ANSWERS
    ]


def test_two_stages(folder):
    pytest.importorskip('peft')
    frozen = ('vision_tower', 'language_model')
    make_runner(folder, folder / 'first', freeze=frozen).train()
    second = make_runner(
        folder, folder / 'second', language=dict(lora=dict(r=2)))
    second.load_or_resume()
    second._load_from = str(folder / 'first' / 'epoch_1.pth')
    second.train()
    saved = torch.load(folder / 'first' / 'epoch_1.pth', weights_only=False)
    name = 'language_model.lm_head.weight'
    assert torch.equal(second.model.state_dict()[name],
                       saved['state_dict'][name])
