"""What every stage costs, ours and the plain way timed alternately in one process, so that figures are ratios.

    PARAMDIFF_DATA=ROOT python -m benchmarks                        # everything: benchmarks.json, .md, growth curves
    PARAMDIFF_DATA=ROOT python -m benchmarks --only score,fit --rounds 5 --out runs/today.json
    PARAMDIFF_DATA=ROOT python -m benchmarks --resume               # go on after a kill
    python -m benchmarks --quick                                    # small sizes, synthetic data

Run it from the root of the repository. Without ``PARAMDIFF_DATA`` (the folder with ``cifar100/`` and ``reference/``)
networks and images of the same sizes are random, and accuracies are left out.

Every case runs in a process of its own (:mod:`benchmarks.suite`). A new one is a module with a dataclass ``Sizes``
(:class:`benchmarks.sizes.Common`), ``QUICK`` (a dict of smaller ones) and ``run(sizes)``, which gives rows
(:mod:`benchmarks.rows`); it is named in :data:`benchmarks.suite.CASES`.
"""
