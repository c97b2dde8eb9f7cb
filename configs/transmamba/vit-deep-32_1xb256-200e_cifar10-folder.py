# A teacher deeper than the students: 18 layers instead of 12
_base_ = 'vit-tiny-32_1xb256-200e_cifar10-folder.py'

model = dict(backbone=dict(arch=dict(num_layers=18)))
