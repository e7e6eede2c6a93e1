"""Tensor expressions: stages, fusion, layouts, the generic schedule."""
