"""A frozen student does not move, whatever the optimizer does."""
import torch
from torch import nn

from transmamba_mm.distillation import FrozenStudent, steady_mode, touch


def make():
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    return nn.ModuleDict(dict(body=body, top=nn.Linear(4, 2)))


def step(model, optimizer):
    x = torch.randn(8, 4)
    loss = model['top'](model['body'](x)).square().mean()
    loss = loss + touch(model['body'].parameters())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def test_weights_and_statistics_stay_and_learn_again_later():
    model = make()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    frozen = FrozenStudent(model, model['top'], [optimizer])
    before = {k: v.clone() for k, v in model.state_dict().items()}
    for _ in range(3):
        model.train()
        frozen.hold()
        step(model, optimizer)
    after = model.state_dict()
    for key, value in before.items():
        assert torch.equal(value, after[key]) == key.startswith('body'), key
    assert set(optimizer.state) == set(model['top'].parameters())
    frozen.close()
    assert model['body'][2].training
    step(model, optimizer)
    assert all(not torch.equal(v,
                               model.state_dict()[k])
               for k, v in before.items())


def test_batches_are_normalised_by_themselves_without_dropout():
    model = make().eval()
    body = model['body']
    x = 3 + torch.randn(64, 4)
    with steady_mode(model):
        first, second = body(x), body(x)
    assert torch.equal(first, second)
    torch.testing.assert_close(
        first.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    assert not any(m.training for m in model.modules())
    assert body[1].track_running_stats
    assert body[1].num_batches_tracked == 0


def test_a_norm_kept_in_eval_stays_there():

    class Kept(nn.BatchNorm1d):

        def train(self, mode=True):
            return super().train(False)

    norm = Kept(4)
    x = 3 + torch.randn(64, 4)
    with steady_mode(norm):
        out = norm(x)
    torch.testing.assert_close(out, x, atol=1e-4, rtol=1e-4)
