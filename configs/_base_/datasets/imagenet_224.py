# ImageNet-1k at 224 pixels with the augmentation of DeiT and Swin; `--cfg-
# options train_dataloader.dataset.fraction=0.75` takes 75 % of each class
_base_ = 'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py'

train_dataloader = dict(
    batch_size=128,
    dataset=dict(
        _delete_=True,
        type='transmamba_mm.ClassBalancedSubset',
        fraction=1.0,
        seed=0,
        dataset=_base_.train_dataloader.dataset))
