# Teacher: a small ViT trained on the target data
_base_ = [
    '../_base_/models/vit-tiny-32.py',
    '../_base_/datasets/cifar10-folder_32.py',
    '../_base_/schedules/adamw_1xb256-200e.py',
    '../_base_/transmamba_runtime.py',
]
