_base_ = [
    '../_base_/models/videomamba-tiny.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/adamw_8xb128-300e.py',
    '../_base_/transmamba_runtime.py',
]
