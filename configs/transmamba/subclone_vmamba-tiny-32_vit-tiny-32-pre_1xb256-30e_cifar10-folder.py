_base_ = [
    '../_base_/models/vmamba-tiny-32.py',
    '../_base_/datasets/cifar10-folder_32.py',
    '../_base_/schedules/adamw_1xb256-30e.py',
    '../_base_/transmamba_runtime.py',
]

# TEACHER=path/to/weights.pth overrides it
teacher_checkpoint = '{{$TEACHER:work_dirs/vit-tiny-32_1xb256-200e_cifar10-folder/epoch_200.pth}}'  # noqa: E501

custom_hooks = [
    dict(
        type='transmamba_mm.WeightSubcloneHook',
        checkpoint=teacher_checkpoint),
]
