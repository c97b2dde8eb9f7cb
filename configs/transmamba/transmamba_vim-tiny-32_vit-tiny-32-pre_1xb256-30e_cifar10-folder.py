_base_ = [
    '../_base_/models/vim-tiny-32.py',
    '../_base_/datasets/cifar10-folder_32.py',
    '../_base_/schedules/adamw_1xb256-30e.py',
    '../_base_/transmamba_runtime.py',
]

# TEACHER=path/to/weights.pth overrides it
teacher_checkpoint = '{{$TEACHER:work_dirs/vit-tiny-32_1xb256-200e_cifar10-folder/epoch_200.pth}}'  # noqa: E501

model = dict(
    type='transmamba_mm.DistillClassifier',
    distiller=dict(
        type='transmamba_mm.BidirectionalDistiller',
        teacher_dims=192,
        teacher_depth=12),
)

custom_hooks = [
    dict(
        type='transmamba_mm.WeightSubcloneHook',
        checkpoint=teacher_checkpoint),
    dict(
        type='transmamba_mm.BidirectionalDistillHook',
        teacher=dict(
            type='transmamba_mm.MMPretrainTeacher',
            config='{{ fileDirname }}/vit-tiny-32_1xb256-200e_cifar10-folder.py',  # noqa: E501
            checkpoint=teacher_checkpoint)),
]
