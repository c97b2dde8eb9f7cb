_base_ = [
    '../_base_/models/plainmamba-nano-16.py',
    '../_base_/datasets/digits_16.py',
    '../_base_/schedules/adamw_1xb64-20e.py',
    '../_base_/transmamba_runtime.py',
]

# TEACHER=path/to/weights.pth overrides it
teacher_checkpoint = '{{$TEACHER:work_dirs/vit-nano-16_1xb64-20e_digits/epoch_20.pth}}'  # noqa: E501

custom_hooks = [
    dict(
        type='transmamba_mm.WeightSubcloneHook',
        checkpoint=teacher_checkpoint),
]
