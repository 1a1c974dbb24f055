"""The figures of the page: each a function from a finished run to a :class:`~paramdiff.reports.plotting.Plot`."""
