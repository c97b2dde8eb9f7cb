# A teacher wider than the students: 384 instead of 192
_base_ = 'vit-tiny-32_1xb256-200e_cifar10-folder.py'

model = dict(
    backbone=dict(
        arch=dict(embed_dims=384, num_heads=6, feedforward_channels=1536)),
    head=dict(in_channels=384))
