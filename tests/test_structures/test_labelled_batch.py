"""Data samples that are made when they are looked at."""
import pytest
import torch
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from transmamba_mm.structures import LabelledBatch


@pytest.fixture
def batch():
    return LabelledBatch(
        torch.tensor([2, 0, 1]),
        torch.eye(3)[[2, 0, 1]] * 0.9 + 1 / 30)


def test_it_is_a_list_of_data_samples(batch):
    assert len(batch) == 3
    assert [s.gt_label.item() for s in batch] == [2, 0, 1]
    assert batch[-1].gt_score.argmax() == 1
    assert 'gt_score' in batch[0]
    with pytest.raises(IndexError):
        batch[3]


def test_a_head_takes_it_as_it_takes_a_list(batch):
    head = MODELS.build(
        dict(
            type='LinearClsHead',
            num_classes=3,
            in_channels=4,
            loss=dict(type='CrossEntropyLoss', use_soft=True)))
    features = (torch.randn(3, 4), )
    listed = [
        DataSample().set_gt_label(s.gt_label).set_gt_score(s.gt_score)
        for s in batch
    ]
    got, want = (head.loss(features, b)['loss'] for b in (batch, listed))
    torch.testing.assert_close(got, want)
