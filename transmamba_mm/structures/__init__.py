from .labelled_batch import LabelledBatch

__all__ = ['LabelledBatch']
