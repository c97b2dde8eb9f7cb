# A teacher narrower than the students: 96 instead of 192
_base_ = 'vit-tiny-32_1xb256-200e_cifar10-folder.py'

model = dict(
    backbone=dict(arch=dict(embed_dims=96, feedforward_channels=384)),
    head=dict(in_channels=96))
