# Teacher: DeiT-small fine-tuned on the target data
_base_ = [
    '../_base_/models/deit-small.py',
    '../_base_/datasets/imagenet100_224.py',
    '../_base_/schedules/adamw_8xb128-100e.py',
    '../_base_/transmamba_runtime.py',
]

model = dict(head=dict(num_classes=100))

load_from = 'https://download.openmmlab.com/mmclassification/v0/deit/deit-small_pt-4xb256_in1k_20220218-9425b9bb.pth'  # noqa: E501
