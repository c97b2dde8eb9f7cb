from .grouping_optim_wrapper_constructor import GroupingOptimWrapperConstructor

__all__ = ['GroupingOptimWrapperConstructor']
