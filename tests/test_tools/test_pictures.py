"""The tools that draw pictures, each run in this process."""
import importlib.util
import json
import sys

import numpy as np
import pytest
import torch
from mmpretrain.apis import get_model
from PIL import Image

from ..command import ROOT, run_python

TOOLS = ROOT / 'tools/analysis_tools'
RECIPES = ROOT / 'configs/transmamba'
VIM = RECIPES / 'vim-nano-16_1xb64-20e_digits.py'
VMAMBA = RECIPES / 'vmamba-tiny-32_1xb256-30e_cifar10-folder.py'
VIT = RECIPES / 'vit-nano-16_1xb64-20e_digits.py'
DISTILLED = RECIPES / 'distill_vim-nano-16_vit-nano-16-pre_1xb64-20e_digits.py'


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run a tool with a command line, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(TOOLS))
    monkeypatch.setenv('TEACHER', 'vit.pth')

    def call(name, *args):
        spec = importlib.util.spec_from_file_location(f'tool_{name}',
                                                      TOOLS / f'{name}.py')
        tool = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(tool)
        monkeypatch.setattr(sys, 'argv', [name, *map(str, args)])
        tool.main()

    return call


@pytest.fixture(scope='module')
def inputs(tmp_path_factory):
    """Some images, and weights of a student and of a teacher."""
    folder = tmp_path_factory.mktemp('pictures')
    (folder / 'images/0').mkdir(parents=True)
    random = np.random.RandomState(0)
    for i in range(5):
        pixels = random.randint(0, 255, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f'images/0/{i}.png')
    for name, config in (('vim', VIM), ('vit', VIT)):
        torch.manual_seed(0)
        model = get_model(str(config))
        model.init_weights()
        torch.save(dict(state_dict=model.state_dict()), folder / f'{name}.pth')
    return folder


def size_of(path):
    with Image.open(path) as image:
        image.load()
        return image.size


def test_receptive_fields(run, inputs, capsys):
    run('receptive_field', VIM, VIT, '--images', inputs / 'images',
        '--checkpoints', inputs / 'vim.pth', inputs / 'vit.pth',
        '--num-images', 3, '--out', 'made/erf.png')
    assert min(size_of('made/erf.png')) > 300
    lines = capsys.readouterr().out.splitlines()
    assert sum('3 images, half of the gradient in' in x for x in lines) == 2


def test_receptive_field_of_random_weights(run, inputs):
    run('receptive_field', VMAMBA, '--images', inputs / 'images',
        '--num-images', 1, '--layer', 'layers.1.blocks.0')
    assert size_of('receptive_field.png')


def test_receptive_fields_want_one_file_each(run, inputs, capsys):
    with pytest.raises(SystemExit):
        run('receptive_field', VIM, VIT, '--checkpoints', inputs / 'vim.pth')
    assert '1 files for 2 configs' in capsys.readouterr().err


@pytest.mark.parametrize('kind', ['pca', 'norm'])
def test_direction_maps(run, inputs, kind):
    run('direction_maps', inputs / 'images/0/0.png', VIM, inputs / 'vim.pth',
        '--kind', kind, '--layers', 0, -1)
    assert min(size_of('direction_maps.png')) > 300


def test_similarity_map(run, inputs):
    """A student and the teacher of the command line, or of the config."""
    told = ('--images', inputs / 'images', '--student-checkpoint',
            inputs / 'vim.pth')
    run('cka_map', VIM, VIT, '--teacher-checkpoint', inputs / 'vit.pth',
        '--out', 'one', *told)
    report = json.load(open('one/layer_cka.json'))
    assert np.shape(report['cka']) == (4, 4)
    assert size_of('one/layer_cka.png')
    torch.save(torch.load(inputs / 'vit.pth'), 'vit.pth')
    run('cka_map', DISTILLED, '--out', 'two', *told)
    assert json.load(open('two/layer_cka.json')) == report


def test_similarity_map_needs_weights(run, capsys):
    with pytest.raises(SystemExit):
        run('cka_map', VIM, VIT)
    assert '--teacher-checkpoint is needed' in capsys.readouterr().err


def test_folder_without_images(run, inputs, tmp_path):
    with pytest.raises(SystemExit, match='holds no image.*--images'):
        run('receptive_field', VIM, '--images', tmp_path)


@pytest.mark.parametrize(
    'config, layers', [
        (VIM, ()),
        (VMAMBA, ()),
        (VIT, ('--vit-like', )),
    ],
    ids=['vim', 'vmamba', 'vit'])
def test_class_activation_map(run, inputs, config, layers):
    pytest.importorskip('pytorch_grad_cam')
    torch.manual_seed(0)
    model = get_model(str(config))
    torch.save(dict(state_dict=model.state_dict()), 'weights.pth')
    run('vis_cam', inputs / 'images/0/0.png', config, 'weights.pth',
        '--target-category', 1, '--save-path', 'cam.png', *layers)
    assert size_of('cam.png') == (model.backbone.img_size[0], ) * 2


def test_flags_are_those_of_mmpretrain():
    """In a process of its own, where nothing is imported yet."""
    pytest.importorskip('pytorch_grad_cam')
    told = run_python(TOOLS / 'vis_cam.py', '--help')
    assert '--target-category' in told and '--aug-smooth' in told


def test_curves_and_similarity(run, tmp_path, capsys):
    rows = [{
        'loss': 1. / step,
        'step': step,
        'epoch': 1,
        'distill.cos_l00': 0.1 * step
    } for step in (1, 2, 3)]
    for name, keys in (('with', 4), ('without', 3)):
        path = tmp_path / f'{name}/20260101_000000/vis_data/scalars.json'
        path.parent.mkdir(parents=True)
        lines = [json.dumps(dict(list(r.items())[:keys])) for r in rows]
        path.write_text('\n'.join(lines))
    run('plot_transfer', 'without', 'with', '--names', 'a', 'b')
    assert size_of('without/curves.png') and size_of('without/similarity.png')
    run('plot_transfer', 'without', '--out', 'alone')
    assert 'log_layers=True' in capsys.readouterr().out
    assert [p.name for p in (tmp_path / 'alone').iterdir()] == ['curves.png']
