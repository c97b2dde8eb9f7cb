_base_ = [
    '../_base_/models/plainmamba-nano-16.py',
    '../_base_/datasets/digits_16.py',
    '../_base_/schedules/adamw_1xb64-20e.py',
    '../_base_/transmamba_runtime.py',
]

# TEACHER=path/to/weights.pth overrides it
teacher_checkpoint = '{{$TEACHER:work_dirs/vit-nano-16_1xb64-20e_digits/epoch_20.pth}}'  # noqa: E501

model = dict(
    type='transmamba_mm.DistillClassifier',
    distiller=dict(
        type='transmamba_mm.BidirectionalDistiller',
        teacher_dims=64,
        teacher_depth=4),
)

custom_hooks = [
    dict(
        type='transmamba_mm.WeightSubcloneHook',
        checkpoint=teacher_checkpoint),
    dict(
        type='transmamba_mm.BidirectionalDistillHook',
        teacher=dict(
            type='transmamba_mm.MMPretrainTeacher',
            config='{{ fileDirname }}/vit-nano-16_1xb64-20e_digits.py',
            checkpoint=teacher_checkpoint)),
]
