"""Contract tests for classes of your own, in the manner of scikit-learn's ``check_estimator``.

``check_generator(MyGenerator())`` raises an AssertionError that names the rule which is broken.
"""

from paramdiff.testing.generators import check_generator

__all__ = ["check_generator"]
