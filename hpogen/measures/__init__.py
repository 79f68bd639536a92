"""Generalization measures that work in any PyTorch loop; the training room calls them, too."""

from hpogen.measures.head import HeadStatistics, head_statistics

__all__ = ["HeadStatistics", "head_statistics"]
