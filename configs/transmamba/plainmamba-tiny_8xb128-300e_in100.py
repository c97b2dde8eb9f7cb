_base_ = [
    '../_base_/models/plainmamba-tiny.py',
    '../_base_/datasets/imagenet100_224.py',
    '../_base_/schedules/adamw_8xb128-300e.py',
    '../_base_/transmamba_runtime.py',
]

model = dict(head=dict(num_classes=100), )
