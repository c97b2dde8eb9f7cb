_base_ = [
    '../_base_/models/vmamba-tiny-32.py',
    '../_base_/datasets/cifar10-folder_32.py',
    '../_base_/schedules/adamw_1xb256-30e.py',
    '../_base_/transmamba_runtime.py',
]
