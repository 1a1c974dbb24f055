"""Contract tests for classes of your own, in the manner of scikit-learn's ``check_estimator``.

``check_generator(MyGenerator())`` and ``check_task(MyTask())`` raise an AssertionError that names the rule which is
broken.
"""

from paramdiff.testing.generators import check_generator
from paramdiff.testing.tasks import check_task

__all__ = ["check_generator", "check_task"]
