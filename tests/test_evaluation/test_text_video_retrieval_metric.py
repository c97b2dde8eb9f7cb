"""The retrieval metric against a brute-force computation."""
import logging
import time

import numpy as np
import pytest
import torch
from mmengine.registry import METRICS
from mmpretrain.structures import DataSample

from transmamba_mm.evaluation import TextVideoRetrievalMetric, retrieval_ranks


def make_samples(counts, dims=8, seed=0, **fields):
    """Samples of videos with several captions, shuffled."""
    rng = torch.Generator().manual_seed(seed)
    samples = []
    for video, count in enumerate(counts):
        feature = torch.randn(dims, generator=rng)
        for _ in range(count):
            sample = DataSample()
            sample.set_field(f'v{video}', 'video_id')
            sample.set_field(feature, 'video_feat')
            text = feature + 2 * torch.randn(dims, generator=rng)
            sample.set_field(text, 'text_feat')
            for name, value in fields.items():
                sample.set_field(value, name)
            samples.append(sample)
    order = torch.randperm(len(samples), generator=rng).tolist()
    return [samples[index] for index in order]


def evaluate(samples, batch=7, **kwargs):
    metric = TextVideoRetrievalMetric(**kwargs)
    for start in range(0, len(samples), batch):
        metric.process(None,
                       [s.to_dict() for s in samples[start:start + batch]])
    return metric.evaluate(len(samples))


def brute_force(samples, among='videos', scale=None):
    """All ranks by sorting lists, one query at a time."""
    names = sorted({s.video_id for s in samples})
    videos = {s.video_id: s.video_feat.double() for s in samples}
    cosine = [[
        float(torch.cosine_similarity(s.text_feat.double(), videos[n], dim=0))
        for n in names
    ] for s in samples]
    t2v = v2t = np.array(cosine)
    if scale:
        t2v = t2v * np.exp(scale * t2v) / np.exp(scale * t2v).sum(0)
        v2t = v2t * np.exp(scale * v2t) / np.exp(scale * v2t).sum(
            1, keepdims=True)
    ranks = {'t2v': [], 'v2t': []}
    for row, sample in zip(t2v, samples):
        found = sorted(names, key=lambda n: -row[names.index(n)])
        ranks['t2v'].append(1 + found.index(sample.video_id))
    for column, name in enumerate(names):
        scores = v2t[:, column]
        own = max(x for x, s in zip(scores, samples) if s.video_id == name)
        if among == 'videos':
            others = [
                max(x for x, s in zip(scores, samples) if s.video_id == n)
                for n in names if n != name
            ]
        else:
            others = [x for x, s in zip(scores, samples) if s.video_id != name]
        ranks['v2t'].append(1 + sum(x > own for x in others))
    form = 'dual_softmax_' if scale else ''
    wanted = {}
    for way, values in ranks.items():
        name = f'retrieval/{way}_{form}'
        for k in (1, 5, 10):
            wanted[f'{name}R@{k}'] = 100 * np.mean(np.array(values) <= k)
        wanted[f'{name}MdR'] = np.median(values)
        wanted[f'{name}MnR'] = np.mean(values)
    return wanted


@pytest.mark.parametrize('among', ['videos', 'captions'])
@pytest.mark.parametrize('counts', [[1] * 30, [1, 4, 2, 7, 3] * 5])
def test_brute_force(counts, among):
    samples = make_samples(counts)
    result = evaluate(
        samples, video_to_text=among, dual_softmax=20., chunk_size=11)
    for scale in (None, 20.):
        for name, value in brute_force(samples, among, scale).items():
            assert result[name] == pytest.approx(value), name
    assert result['retrieval/chance_R@1'] == pytest.approx(100 / len(counts))
    # the example is neither perfect nor hopeless
    assert 10 < result['retrieval/t2v_R@1'] < 90


def test_chunks_change_nothing():
    samples = make_samples([2] * 20)
    whole = evaluate(samples, dual_softmax=50.)
    for size in (1, 3, 40):
        assert evaluate(
            samples, dual_softmax=50., chunk_size=size) == pytest.approx(whole)


def test_memory_is_that_of_a_chunk(monkeypatch):
    shapes = []
    original = retrieval_ranks._similarity

    def similarity(queries, gallery):
        shapes.append((len(queries), len(gallery)))
        return original(queries, gallery)

    monkeypatch.setattr(retrieval_ranks, '_similarity', similarity)
    evaluate(make_samples([3] * 20), dual_softmax=10., chunk_size=8)
    assert max(queries for queries, _ in shapes) == 8
    assert set(gallery for _, gallery in shapes) == {20, 60}


def test_two_processes():
    """Each keeps the features of the videos that it has seen."""
    samples = make_samples([3] * 15)
    metrics = [TextVideoRetrievalMetric() for _ in range(2)]
    for rank, metric in enumerate(metrics):
        # as the sampler does, with a repeated sample at the end
        own = (samples + samples[:1])[rank::2]
        metric.process(None, [sample.to_dict() for sample in own])
    joined = [r for rows in zip(*(m.results for m in metrics)) for r in rows]
    result = metrics[0].compute_metrics(joined[:len(samples)])
    for name, value in result.items():
        assert value == pytest.approx(evaluate(samples)[f'retrieval/{name}'])


def test_equal_features_are_no_success():
    """A collapsed model must look bad."""
    samples = make_samples([1] * 21)
    for sample in samples:
        sample.video_feat = torch.ones(8)
    result = evaluate(samples)
    assert result['retrieval/t2v_R@1'] == 0
    assert result['retrieval/t2v_MdR'] == 11


@pytest.mark.parametrize('dual', [None, 100.])
def test_not_finite_ranks_last(dual, mmengine_log):
    samples = make_samples([1] * 10)
    for sample in samples:
        sample.text_feat = sample.video_feat.clone()
    assert evaluate(samples)['retrieval/t2v_R@1'] == 100
    samples[3].text_feat[0] = torch.nan
    samples[5].video_feat[0] = torch.inf
    result = evaluate(samples, dual_softmax=dual)
    form = 'dual_softmax_' if dual else ''
    assert result[f'retrieval/t2v_{form}R@1'] == pytest.approx(80)
    assert result[f'retrieval/v2t_{form}R@1'] == pytest.approx(80)
    assert '2 samples have features that are not finite' in mmengine_log.text


def test_galleries_are_averaged():
    first = make_samples([1] * 12, seed=1, gallery='a')
    second = make_samples([1] * 12, seed=2, gallery='b')
    for sample in second:
        sample.video_id = f'w{sample.video_id}'
    both = evaluate(first + second)
    one, two = evaluate(first), evaluate(second)
    for name, value in both.items():
        assert value == pytest.approx((one[name] + two[name]) / 2)


def test_galleries_of_unequal_sizes_are_told(mmengine_log):
    first = make_samples([1] * 12, seed=1, gallery='a')
    second = make_samples([1] * 9, seed=2, gallery='b')
    evaluate(first + second)
    assert 'the galleries hold from 9 to 12 videos' in mmengine_log.text


def test_rerank_orders_the_candidates():
    """A judge that knows all lifts a hit among the candidates to the top."""
    samples = make_samples([2] * 30)
    for sample in samples:
        number = float(sample.video_id[1:])
        sample.set_field(torch.full((4, 1), number), 'video_tokens')
        sample.set_field(torch.full((1, 3, 2), number), 'text_state')
    metric = TextVideoRetrievalMetric(rerank_topk=5, chunk_size=13)
    metric.process(None, [s.to_dict() for s in samples])
    with pytest.raises(ValueError, match='RetrievalRerankHook'):
        metric.compute_metrics(metric.results)

    def judge(videos, states, features):
        assert len(videos) == len(states) == len(features) <= 13
        return -(videos.mean((1, 2)) - states.mean((1, 2, 3))).abs()

    metric.reranker = judge
    result = metric.evaluate(len(samples))
    assert result['retrieval/t2v_R@1'] < result['retrieval/t2v_R@5'] < 100
    assert result['retrieval/t2v_rerank_R@1'] == pytest.approx(
        result['retrieval/t2v_R@5'])
    assert result['retrieval/t2v_rerank_R@10'] == pytest.approx(
        result['retrieval/t2v_R@10'])
    assert result['retrieval/v2t_rerank_R@1'] > result['retrieval/v2t_R@1']


def test_a_thousand_by_a_thousand_is_fast():
    samples = make_samples([1] * 1000, dims=512)
    start = time.perf_counter()
    evaluate(samples, batch=64, dual_softmax=100.)
    assert time.perf_counter() - start < 10


def test_errors():
    with pytest.raises(KeyError, match='video_feat'):
        TextVideoRetrievalMetric().process(None, [dict(video_id='v')])
    for kwargs in (dict(video_to_text='x'), dict(chunk_size=0), dict(topk=[]),
                   dict(rerank_topk=-1), dict(dual_softmax=0)):
        with pytest.raises(ValueError, match=next(iter(kwargs))):
            TextVideoRetrievalMetric(**kwargs)
    built = METRICS.build(dict(type='transmamba_mm.TextVideoRetrievalMetric'))
    assert isinstance(built, TextVideoRetrievalMetric)


@pytest.fixture
def mmengine_log(caplog):
    """Catch what print_log writes."""
    from mmengine.logging import MMLogger
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    with caplog.at_level(logging.WARNING):
        yield caplog
    logger.removeHandler(caplog.handler)
