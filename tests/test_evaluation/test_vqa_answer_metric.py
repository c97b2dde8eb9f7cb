"""Accuracy per answer type, and the baselines beside it."""
import pytest
from mmengine.evaluator import Evaluator
from mmpretrain.structures import DataSample

from transmamba_mm.evaluation import AnswerPriors
from transmamba_mm.registry import METRICS
from ..vqa_toy import write_easy_vqa


def evaluate(rows, meta=None, **kwargs):
    metric = METRICS.build(
        dict(type='transmamba_mm.VQAAnswerMetric', **kwargs))
    metric.dataset_meta = meta
    metric.process(None, rows)
    return metric.evaluate(len(rows))


def row(pred, answer, kind=None, question='what is it?', **kwargs):
    out = dict(pred_answer=pred, gt_answer=answer, question=question, **kwargs)
    return dict(out, answer_type=kind) if kind else out


def test_accuracy_per_type():
    rows = [
        row('Yes.', 'yes', 'yes/no'),
        row('no', 'yes', 'yes/no'),
        row('yes', 'yes', 'yes/no'),
        row('the circle', 'circle', 'shape')
    ]
    out = evaluate(rows)
    assert out['vqa/acc'] == pytest.approx(75)
    assert out['vqa/acc_yes/no'] == pytest.approx(200 / 3)
    assert out['vqa/acc_shape'] == 100
    assert out['vqa/mean_type_acc'] == pytest.approx(500 / 6)
    assert (out['vqa/num_yes/no'], out['vqa/num_shape']) == (3, 1)


def test_weights_are_the_vqa_score():
    answers = dict(gt_answer_weight=[.6, .2, .2])
    rows = [
        row(pred, ['red', 'dark red', 'Red'], **answers)
        for pred in ('red', 'dark red', 'blue')
    ]
    out = evaluate(rows)
    assert out['vqa/acc'] == pytest.approx(100 * (1 + 2 / 3) / 3)
    assert 'vqa/mean_type_acc' not in out
    mmpretrain = METRICS.build(dict(type='mmpretrain.VQAAcc'))
    mmpretrain.process(None, rows)
    assert mmpretrain.evaluate(3)['VQA/acc'] == pytest.approx(out['vqa/acc'])
    plain = evaluate([row('two', ['2', 'both'])])
    assert plain['vqa/acc'] == 100  # any of several answers


def test_baselines(tmp_path):
    write_easy_vqa(tmp_path)
    train = dict(type='transmamba_mm.EasyVQADataset', data_root=str(tmp_path))
    # training answers: circle, red, yes, no, one each
    rows = [
        row('x', 'circle', 'shape', 'what is the shape?'),
        row('x', 'circle', 'shape', 'what is the thing?'),
        row('x', 'red', 'color', 'what color is that?'),
        row('x', 'yes', 'yes/no', 'is there a circle?')
    ]
    out = evaluate(rows, train_dataset=train)
    assert out['vqa/acc'] == 0
    assert out['vqa/majority_acc'] == 50  # 'circle', first in the alphabet
    assert out['vqa/majority_acc_shape'] == 100
    assert out['vqa/mean_type_majority_acc'] == pytest.approx(100 / 3)
    assert out['vqa/question_only_acc'] == 100
    assert out['vqa/question_only_acc_color'] == 100


def test_priors():
    priors = AnswerPriors.fit([('is it a', 'yes'), ('is it a', 'no'),
                               ('is it a', 'no'), ('is it b', 'yes'),
                               ('how many', '2'), ('is that', 'yes')])
    assert priors.majority == 'yes'
    assert priors.guess('is it a') == 'no'
    assert priors.guess('is it c') == 'no'  # two of each: the alphabet
    assert priors.guess('is here') == 'yes'
    assert priors.guess('how much') == '2'
    assert priors.guess('why') == priors.guess('') == 'yes'
    with pytest.raises(ValueError, match='train_dataset'):
        AnswerPriors.fit([])


def test_errors():
    with pytest.raises(ValueError, match="'colour'.*'color'"):
        evaluate([row('a', 'b', 'colour')], answer_types=('color', ))
    with pytest.raises(ValueError, match="'colour'"):
        evaluate([row('a', 'b', 'colour')], dict(answer_types=('color', )))
    for name in ('pred_answer', 'gt_answer'):
        sample = row('a', 'b')
        del sample[name]
        with pytest.raises(KeyError, match=name):
            evaluate([sample])


def test_runs_beside_metrics_of_mmpretrain():
    evaluator = Evaluator([
        dict(type='transmamba_mm.VQAAnswerMetric'),
        dict(type='mmpretrain.GQAAcc'),
        dict(type='mmpretrain.VQAAcc')
    ])
    evaluator.dataset_meta = dict()
    sample = DataSample()
    for name, value in row('yes', 'yes').items():
        sample.set_field(value, name)
    evaluator.process([sample], None)
    out = evaluator.evaluate(1)
    assert (out['vqa/acc'], out['GQA/acc'], out['VQA/acc']) == (100, 1, 100)
