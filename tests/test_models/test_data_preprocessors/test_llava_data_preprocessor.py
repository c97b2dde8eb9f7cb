"""Padding of texts and normalisation of images."""
import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample

from transmamba_mm.registry import MODELS


def preprocessor(**kwargs):
    return MODELS.build(
        dict(type='transmamba_mm.LlavaDataPreprocessor', **kwargs))


def batch(with_labels=True, sizes=((4, 4), (4, 4))):
    texts = [[1, -200, 5], [1, 7, -200, 8, 9]]
    samples = []
    for text in texts:
        sample = DataSample()
        sample.set_field(np.array(text), 'input_ids')
        if with_labels:
            labels = torch.tensor([-100] * (len(text) - 1) + text[-1:])
            sample.set_field(labels, 'labels')
        samples.append(sample)
    images = [
        torch.arange(3, dtype=torch.uint8).view(3, 1, 1).expand(3, *size)
        for size in sizes
    ]
    return dict(inputs=images, data_samples=samples)


def test_labels_are_padded_on_the_right():
    out = preprocessor(pad_token_id=3)(batch())['inputs']
    assert out['input_ids'].tolist() == [[1, -200, 5, 3, 3],
                                         [1, 7, -200, 8, 9]]
    assert out['labels'].tolist() == [[-100, -100, 5, -100, -100],
                                      [-100, -100, -100, -100, 9]]
    assert out['attention_mask'].tolist() == [[True] * 3 + [False] * 2,
                                              [True] * 5]


def test_questions_are_padded_on_the_left():
    out = preprocessor(pad_to_multiple_of=4)(batch(False))['inputs']
    assert out['input_ids'].tolist() == [[0] * 5 + [1, -200, 5],
                                         [0] * 3 + [1, 7, -200, 8, 9]]
    assert out['labels'] is None
    assert out['attention_mask'].sum(1).tolist() == [3, 5]
    assert out['attention_mask'][0, -3:].all()
    left = preprocessor(padding_side='left')(batch())['inputs']
    assert left['labels'][0].tolist() == [-100, -100, -100, -100, 5]


def test_images_are_normalised():
    model = preprocessor(mean=[2., 1., 0.], std=[1., 1., 2.], to_rgb=True)
    data = batch()
    out = model(data)
    images = out['inputs']['images']
    assert images.shape == (2, 3, 4, 4) and images.dtype == torch.float32
    assert images[0, :, 0, 0].tolist() == [0., 0., 0.]
    assert out['data_samples'] is data['data_samples']
    assert 'mean' not in model.state_dict()


def test_errors():
    with pytest.raises(ValueError, match='different sizes.*Resize'):
        preprocessor()(batch(sizes=((4, 4), (4, 5))))
    mixed = batch()
    del mixed['data_samples'][0].labels
    with pytest.raises(ValueError, match='1 of 2'):
        preprocessor()(mixed)
    mixed['data_samples'][0] = DataSample()
    with pytest.raises(KeyError, match='TokenizeConversation'):
        preprocessor()(mixed)
    for kwargs in (dict(padding_side='both'), dict(mean=[0.] * 3),
                   dict(pad_to_multiple_of=0)):
        with pytest.raises(ValueError, match='data_preprocessor'):
            preprocessor(**kwargs)
