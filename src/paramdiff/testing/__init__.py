"""Contract tests for classes of your own, in the manner of scikit-learn's ``check_estimator``.

``check_task(MyTask())`` raises an AssertionError that names the rule which is broken.
"""

from paramdiff.testing.tasks import check_task

__all__ = ["check_task"]
