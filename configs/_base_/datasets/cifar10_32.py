# CIFAR-10 at 32 pixels; downloaded on first use
_base_ = 'mmpretrain::_base_/datasets/cifar10_bs16.py'

train_dataloader = dict(
    batch_size=256,
    dataset=dict(
        _delete_=True,
        type='transmamba_mm.ClassBalancedSubset',
        fraction=1.0,
        seed=0,
        dataset=_base_.train_dataloader.dataset))
val_dataloader = dict(batch_size=256)
test_dataloader = dict(batch_size=256)
