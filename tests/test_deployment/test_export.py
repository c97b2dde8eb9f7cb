"""Exported models give the same outputs, and the scan is not unrolled."""
import importlib

import pytest
import torch
from mmpretrain.registry import MODELS

from transmamba_mm.deployment import onnx_scan

ARCHS = dict(
    VisionMamba=dict(embed_dims=16, num_layers=1, d_state=2),
    PlainMamba=dict(embed_dims=16, num_layers=1, d_state=2),
    VideoMamba=dict(embed_dims=16, num_layers=1, d_state=2),
    VMamba=dict(embed_dims=16, depths=(1, 1), with_gate=True, conv_bias=True))


def classifier(kind, **kwargs):
    torch.manual_seed(0)
    width = 32 if kind == 'VMamba' else 16
    model = MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=dict(
                type=f'transmamba_mm.{kind}',
                arch=ARCHS[kind],
                img_size=16,
                patch_size=4,
                **kwargs),
            head=dict(type='LinearClsHead', num_classes=5, in_channels=width)))
    return model.eval()


def test_recurrence_is_the_scan():
    """The operator that is exported computes what the back ends compute."""
    scan = importlib.import_module('transmamba_mm.ops.selective_scan')
    torch.manual_seed(0)
    batch, groups, channels, states, length = 2, 2, 3, 5, 6
    u, z = torch.randn(2, batch, groups, channels, length).unbind()
    B, C = torch.randn(2, batch, groups, states, length).unbind()
    delta = torch.randn(batch, 1, channels, length)  # shared by the groups
    A = -torch.rand(1, channels, states)
    rest = dict(
        D=torch.randn(groups, channels),
        delta_bias=torch.randn(1, channels),
        delta_softplus=True)
    for gate in (None, z):
        expected, _ = scan.scan_groups(u, delta, A, B, C, z=gate, **rest)
        out, _ = onnx_scan.scan_groups(u, delta, A, B, C, z=gate, **rest)
        torch.testing.assert_close(out, expected)


def test_the_scan_is_given_back():
    model = classifier('VisionMamba')
    images = torch.randn(2, 3, 16, 16)
    module = importlib.import_module('transmamba_mm.ops.multi_direction_scan')
    original = module.scan_groups
    with torch.no_grad():
        expected = model(images)
        with pytest.raises(KeyError), onnx_scan.exportable_scan():
            assert module.scan_groups is not original
            torch.testing.assert_close(model(images), expected)
            raise KeyError
    assert module.scan_groups is original


@pytest.mark.parametrize(
    'kind, kwargs', [
        ('VisionMamba', {}),
        ('PlainMamba', {}),
        ('VideoMamba', dict(num_frames=2)),
        ('VMamba', {}),
    ],
    ids=lambda x: x if isinstance(x, str) else '')
def test_export(tmp_path, kind, kwargs):
    onnx = pytest.importorskip('onnx')
    runtime = pytest.importorskip('onnxruntime')
    pytest.importorskip('onnxscript')
    from transmamba_mm.deployment import export_onnx
    model = classifier(kind, **kwargs)
    path = str(tmp_path / 'out/model.onnx')
    size = None if kwargs else (16, 20)
    report = export_onnx(model, path, size)
    blocks = len(model.backbone.block_names)
    assert report['scan_nodes'] == blocks and report['difference'] < 1e-4
    graph = onnx.load(path).graph
    assert len(graph.node) < 300
    assert [n.op_type for n in graph.node].count('Scan') == blocks
    session = runtime.InferenceSession(
        path, providers=['CPUExecutionProvider'])
    frames = [2] if kwargs else []
    images = torch.randn(4, 3, *frames, *(size or (16, 16)))
    scores, = session.run(None, {'images': images.numpy()})
    assert scores.shape == (4, 5)
    with torch.no_grad():
        torch.testing.assert_close(
            torch.from_numpy(scores), model(images), atol=1e-4, rtol=1e-4)


def test_the_gate(tmp_path, monkeypatch):
    """A file whose outputs differ is not written."""
    for name in ('onnx', 'onnxruntime', 'onnxscript'):
        pytest.importorskip(name)
    from transmamba_mm.deployment import export, export_onnx
    model = classifier('PlainMamba')
    path = tmp_path / 'model.onnx'
    write = export._write

    def spoil(wrapped, *args):
        write(wrapped, *args)
        model.head.fc.bias.data += 0.01

    monkeypatch.setattr(export, '_write', spoil)
    with pytest.raises(ValueError, match='by 0.01.*, more than the tolerance'):
        export_onnx(model, str(path))
    assert not list(tmp_path.iterdir())
