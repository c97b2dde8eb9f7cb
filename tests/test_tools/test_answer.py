"""Ask from the command line, by the inferencer and by `inference_model`."""
import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpretrain import VisualQuestionAnsweringInferencer
from mmpretrain.apis import get_model, inference_model

from tests.command import ROOT, run_python
from transmamba_mm.datasets.vqa import build_word_tokenizer

NAME = 'transllava-tiny-64_1xb128-6e_easy-vqa'
RECIPE = ROOT / f'configs/transmamba/vqa/{NAME}.py'
QUESTION = 'what color is the shape?'


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """A model that may only say 'red', its tokenizer and an image."""
    folder = tmp_path_factory.mktemp('ask')
    tokenizer = build_word_tokenizer([QUESTION, 'red'],
                                     str(folder / 'tokenizer'))
    model = get_model(NAME, tokenizer=str(folder / 'tokenizer'), device='cpu')
    red = tokenizer(' red')['input_ids'][-1]
    model.generation_cfg.update(
        suppress_tokens=[
            i for i in range(128) if i not in (red, tokenizer.eos_token_id)
        ],
        min_new_tokens=1,
        max_new_tokens=1)
    torch.save(dict(state_dict=model.state_dict()), str(folder / 'model.pth'))
    cv2.imwrite(str(folder / 'image.png'), np.full((64, 64, 3), 99, np.uint8))
    return folder, model


def generation(model):
    ids = ','.join(map(str, model.generation_cfg['suppress_tokens']))
    return [
        f'model.generation_cfg.suppress_tokens=[{ids}]',
        'model.generation_cfg.min_new_tokens=1',
        'model.generation_cfg.max_new_tokens=1'
    ]


def test_one_line(files):
    folder, model = files
    arguments = [
        'tools/answer.py', RECIPE, folder / 'model.pth', folder / 'image.png',
        QUESTION, 'is it red?', '--device', 'cpu', '--cfg-options',
        f'model.tokenizer={folder}/tokenizer', *generation(model)
    ]
    lines = run_python(*arguments).splitlines()
    assert f'{QUESTION} red' in lines and 'is it red? red' in lines
    (folder / 'broken.png').write_text('no image')
    arguments[3] = folder / 'broken.png'
    said = run_python(*arguments, fails=True)
    assert 'broken.png' in said and 'Traceback' not in said


def test_inferencer_and_inference_model(files):
    folder, model = files
    cfg = Config.fromfile(RECIPE)
    cfg.test_dataloader.dataset.pipeline[1].tokenizer = str(folder /
                                                            'tokenizer')
    model._config = cfg
    image = str(folder / 'image.png')
    expected = dict(question=QUESTION, pred_answer='red')
    assert VisualQuestionAnsweringInferencer(model)(image,
                                                    QUESTION) == [expected]
    assert inference_model(model, image, QUESTION) == expected
    # an image in memory
    array = np.full((64, 64, 3), 99, np.uint8)
    assert inference_model(model, array, QUESTION) == expected
