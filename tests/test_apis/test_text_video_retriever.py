"""Text in, ranked videos out."""
import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmpretrain.registry import MODELS

from tests.command import ROOT, run_python
from tests.test_models.test_multimodal.toy_videos import retrieval_cfg
from transmamba_mm.apis import TextVideoRetriever

COLOURS = dict(red=(200, 20, 20), green=(20, 200, 20), blue=(20, 20, 200))


def make_cfg(head='MeanPoolHead'):
    model = retrieval_cfg(head)
    model['text_tower']['arch'] = dict(
        model['text_tower']['arch'], vocab_size=512)
    steps = [
        dict(type='transmamba_mm.LoadVideo', num_frames=4),
        dict(type='transmamba_mm.ResizeClip', scale=16),
        dict(
            type='transmamba_mm.TokenizeText',
            tokenizer=dict(type='words', vocab_size=512),
            max_length=6),
        dict(type='transmamba_mm.PackVideoText')
    ]
    return Config(
        dict(model=model, test_dataloader=dict(dataset=dict(pipeline=steps))))


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp('videos')
    for name, colour in COLOURS.items():
        clip = np.full((6, 20, 24, 3), colour, np.uint8)
        np.save(folder / f'{name}.npy', clip)
    return folder


def train(cfg, videos, path):
    """Let a model know the three colours, and save it."""
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    retriever = TextVideoRetriever(cfg)
    inputs, samples = [], []
    for name in COLOURS:
        data = retriever._read(dict(video_path=str(videos / f'{name}.npy')))
        data['data_samples'].set_field(name, 'video_id')
        data['data_samples'].set_field(
            retriever._tokenize(dict(caption=f'a {name} thing'))['text'],
            'text')
        inputs.append(data['inputs'])
        samples.append(data['data_samples'])
    optim = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=3e-3))
    for _ in range(12):
        model.train_step(dict(inputs=inputs, data_samples=samples), optim)
    torch.save(dict(state_dict=model.state_dict()), path)


@pytest.fixture(scope='module', params=['MeanPoolHead', 'CrossMambaHead'])
def trained(request, videos, tmp_path_factory):
    cfg = make_cfg(request.param)
    path = tmp_path_factory.mktemp('run') / 'weights.pth'
    train(cfg, videos, path)
    return cfg, str(path)


def test_texts_find_their_videos(trained, videos, tmp_path):
    retriever = TextVideoRetriever(
        *trained, str(videos), device='cpu', batch_size=2)
    assert retriever.video_ids == ['blue', 'green', 'red']
    results = retriever.save_sheet([f'a {name} thing' for name in COLOURS],
                                   str(tmp_path / 'sheet.png'),
                                   topk=2)
    assert [row[0]['video_id'] for row in results] == list(COLOURS)
    assert all(row[0]['score'] > row[1]['score'] for row in results)
    assert results[0][0]['video_path'] == str(videos / 'red.npy')
    # the picture shows the first video of the first text beside it
    sheet = cv2.imread(str(tmp_path / 'sheet.png'))
    found = np.argwhere((sheet == COLOURS['red'][::-1]).all(-1))
    assert len(found) and found[:, 0].min() < sheet.shape[0] / 3


def test_judged_candidates_stay_before_the_others(trained, videos):
    retriever = TextVideoRetriever(*trained, str(videos), device='cpu')
    whole = retriever('a red thing', topk=9)[0]
    assert len(whole) == 3
    part = retriever('a red thing', topk=9, rerank_topk=2)[0]
    first = retriever('a red thing', topk=9, rerank_topk=0)[0]
    assert {v['video_id'] for v in part[:2]} == \
        {v['video_id'] for v in first[:2]}
    scores = [v['score'] for v in part]
    assert scores == sorted(scores, reverse=True)


def test_unreadable_videos_are_left_out(trained, videos, tmp_path,
                                        monkeypatch):
    told = []
    monkeypatch.setattr('transmamba_mm.apis.text_video_retriever.print_log',
                        lambda text, **kwargs: told.append(text))
    (tmp_path / 'broken.npy').write_bytes(b'')
    paths = [str(videos / 'red.npy'), str(tmp_path / 'broken.npy')]
    retriever = TextVideoRetriever(*trained, paths, device='cpu')
    assert retriever.video_ids == ['red']
    assert len(told) == 1 and 'broken.npy' in told[0]
    with pytest.raises(ValueError, match='None of the 1 videos'):
        retriever.add(paths[1:])


def test_bad_input_is_named(trained, tmp_path):
    retriever = TextVideoRetriever(*trained, device='cpu')
    with pytest.raises(ValueError, match='no videos'):
        retriever('red')
    with pytest.raises(FileNotFoundError, match='/no/such'):
        retriever.add('/no/such')
    with pytest.raises(FileNotFoundError, match='holds no videos'):
        retriever.add(str(tmp_path))
    cfg = Config.fromfile(ROOT /
                          'configs/transmamba/vim-nano-16_1xb64-20e_digits.py')
    with pytest.raises(ValueError, match='TextVideoRetrieval'):
        TextVideoRetriever(cfg)


@pytest.mark.parametrize('trained', ['CrossMambaHead'], indirect=True)
def test_command_line(trained, videos, tmp_path):
    cfg, weights = trained
    cfg.dump(tmp_path / 'config.py')
    out = run_python('tools/search_videos.py', tmp_path / 'config.py', weights,
                     videos, 'a green thing', '--out', tmp_path / 'a.png',
                     '--device', 'cpu')
    assert '  1. ' in out and 'green.npy' in out.split('  1. ')[1].split()[1]
    assert (tmp_path / 'a.png').stat().st_size > 1000
