_base_ = [
    '../_base_/models/plainmamba-tiny.py',
    '../_base_/datasets/cifar100_224.py',
    '../_base_/schedules/adamw_8xb128-300e.py',
    '../_base_/transmamba_runtime.py',
]

# TEACHER=path/to/weights.pth overrides it
teacher_checkpoint = '{{$TEACHER:work_dirs/deit-small_8xb128-100e_cifar100/epoch_100.pth}}'  # noqa: E501

model = dict(head=dict(num_classes=100), )

custom_hooks = [
    dict(
        type='transmamba_mm.WeightSubcloneHook',
        checkpoint=teacher_checkpoint),
]
