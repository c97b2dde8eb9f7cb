"""Training and testing on clips of which some are broken."""
import json
import logging

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.runner import Runner

from transmamba_mm.engine import VideoReportHook
from ...test_datasets.video_clips import make_frames

PIPELINE = [
    dict(type='transmamba_mm.LoadVideo', num_frames=2),
    dict(type='transmamba_mm.ResizeClip', scale=(8, 8)),
    dict(
        type='transmamba_mm.TokenizeText',
        tokenizer=dict(type='words', vocab_size=100),
        max_length=6),
    dict(type='transmamba_mm.PackVideoText')
]


class ToyHead(torch.nn.Linear):
    """Likes pairs whose video is bright."""
    reranks = True

    def score(self, visual, states, texts):
        assert not torch.is_grad_enabled() and states.shape[1:] == (2, 1)
        return visual.mean((1, 2))


@MODELS.register_module(force=True)
class ToyRetrieval(BaseModel):
    """Features are the brightness of the clip and the first word."""

    def __init__(self, reranks=True):
        super().__init__()
        self.head = ToyHead(1, 1)
        self.head.reranks = reranks

    def forward(self, inputs, data_samples=None, mode='tensor'):
        light = torch.stack([clip.float().mean() for clip in inputs])
        if mode == 'loss':
            return dict(loss=self.head(light[:, None]).pow(2).mean())
        for value, sample in zip(light, data_samples):
            feature = torch.stack([value, value + 1])
            sample.set_field(feature, 'video_feat')
            word = sample.text['input_ids'][1].float()
            sample.set_field(torch.stack([word, 50 - word]), 'text_feat')
            sample.set_field(feature[:, None], 'video_tokens')
            sample.set_field(feature[:, None], 'text_state')
        return data_samples


@pytest.fixture
def log(caplog):
    """Catch what print_log writes, in spite of the runner's own logger."""

    def catch(runner):
        MMLogger.get_current_instance().addHandler(caplog.handler)
        return runner

    caplog.set_level(logging.WARNING)
    caplog.catch = catch
    return caplog


def make_run(tmp_path, log, rerank_topk=0, reranks=True):
    folder = tmp_path / 'videos'
    folder.mkdir()
    names = [f'v{i}' for i in range(6)]
    for number, name in enumerate(names):
        np.save(folder / f'{name}.npy', make_frames(4) + number)
    for name in ('v2', 'v4'):
        (folder / f'{name}.npy').write_bytes(b'')
    rows = [dict(video=n, caption=f'{n} and it moves') for n in names]
    rows[1]['caption'] += ' for a very long time'
    (tmp_path / 'all.jsonl').write_text('\n'.join(map(json.dumps, rows)))
    dataset = dict(
        type='transmamba_mm.VideoTextDataset',
        ann_file='all.jsonl',
        data_root=str(tmp_path),
        data_prefix=dict(video='videos'),
        pipeline=PIPELINE)
    loader = dict(
        batch_size=3,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False))
    test_loader = dict(loader, dataset=dict(dataset, test_mode=True))
    evaluator = dict(
        type='transmamba_mm.TextVideoRetrievalMetric', rerank_topk=rerank_topk)
    return log.catch(
        Runner(
            model=dict(type='ToyRetrieval', reranks=reranks),
            work_dir=str(tmp_path / 'run'),
            train_dataloader=dict(loader, dataset=dataset),
            train_cfg=dict(by_epoch=True, max_epochs=1),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=1e-6)),
            val_dataloader=test_loader,
            val_cfg=dict(),
            val_evaluator=evaluator,
            test_dataloader=test_loader,
            test_cfg=dict(),
            test_evaluator=evaluator,
            default_hooks=dict(
                checkpoint=dict(
                    type='transmamba_mm.ResumableCheckpointHook',
                    save_best='auto')),
            custom_hooks=[
                dict(type='transmamba_mm.VideoReportHook'),
                dict(type='transmamba_mm.RetrievalRerankHook')
            ],
            experiment_name=tmp_path.name))


def test_broken_videos_are_reported_and_the_run_goes_on(tmp_path, log):
    runner = make_run(tmp_path, log)
    runner.train()
    reports = [r.message for r in log.records if 'could not be' in r.message]
    # once, at the end of training, with the validation in it
    assert len(reports) == 1
    assert reports[0].startswith('2 videos could not be read, ')
    assert 'v2.npy' in reports[0] and 'v4.npy' in reports[0]
    assert '1 captions are longer than `max_length`' in log.text
    assert 'compared as black clips: [\'v2\', \'v4\']' in log.text
    # the best checkpoint is that of the first result
    assert list((tmp_path / 'run').glob('best_retrieval_t2v_R@1_*.pth'))


def test_report_after_testing(tmp_path, log):
    result = make_run(tmp_path, log).test()
    assert '2 videos could not be read, 2 times in all' in log.text
    assert result['retrieval/chance_R@1'] == pytest.approx(100 / 6)


def test_names_in_the_warning_are_limited(log):
    hook = log.catch(VideoReportHook(max_names=2))
    hook.unreadable.update(['a', 'b', 'c', 'a'])
    unreadable, _ = hook.report()
    assert unreadable == dict(a=2, b=1, c=1)
    assert "4 times in all: ['a', 'b'] and 1 more" in log.text
    assert not hook.report()[0]


def test_rerank_uses_the_head(tmp_path, log):
    result = make_run(tmp_path, log, rerank_topk=6).test()
    # the brightest video is the first of all texts
    assert result['retrieval/t2v_rerank_MnR'] == pytest.approx(
        (1 + 2 + 3 + 4 + 5.5 + 5.5) / 6)
    assert result['retrieval/t2v_rerank_R@1'] == pytest.approx(100 / 6)


def test_rerank_refuses_a_plain_head(tmp_path, log):
    with pytest.raises(TypeError, match='rerank_topk=0'):
        make_run(tmp_path, log, rerank_topk=3, reranks=False).test()
