"""The predictions that a run leaves behind are those of its last weights."""
import numpy as np
import torch

from tests.toy import make_runner, student_cfg
from transmamba_mm.apis import predict_dataset
from transmamba_mm.evaluation import Predictions


def test_predictions_of_the_last_validation(tmp_path):
    runner = make_runner(
        tmp_path,
        student_cfg(),
        custom_hooks=[dict(type='transmamba_mm.SavePredictionsHook')],
        epochs=2)
    runner.train()
    kept = Predictions.load(tmp_path / 'predictions.npz')
    assert kept.targets.tolist() == [i % 4 for i in range(16)]
    assert kept.classes.tolist() == ['a', 'b', 'c', 'd']
    accuracy = 100 * float(np.mean(kept.labels == kept.targets))
    metric = runner.message_hub.get_scalar('val/accuracy/top1').current()
    assert accuracy == metric
    cfg = runner.cfg
    cfg.test_dataloader = cfg.val_dataloader
    again = predict_dataset(cfg, str(tmp_path / 'epoch_2.pth'), 'cpu')
    assert np.array_equal(again.labels, kept.labels)
    assert np.array_equal(again.targets, kept.targets)
    assert np.allclose(again.confidences, kept.confidences, rtol=1e-3, atol=0)


def test_a_test_writes_them_too(tmp_path):
    torch.manual_seed(0)
    model = student_cfg()
    loader = dict(
        batch_size=8,
        num_workers=0,
        dataset=dict(type='ToyDataset', length=12),
        sampler=dict(type='DefaultSampler', shuffle=False))
    runner = make_runner(
        tmp_path,
        model,
        custom_hooks=[
            dict(
                type='transmamba_mm.SavePredictionsHook',
                file_name='answers.npz')
        ],
        test_dataloader=loader,
        test_cfg=dict(),
        test_evaluator=dict(type='mmpretrain.Accuracy'))
    runner.test()
    assert len(Predictions.load(tmp_path / 'answers.npz').labels) == 12
    assert not (tmp_path / 'predictions.npz').exists()
