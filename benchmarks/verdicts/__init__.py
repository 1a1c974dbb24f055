"""The verdict on samples of known origin: kinds of zoo x kinds of samples x seeds, and how often each class came out.

python -m benchmarks.verdicts --seeds 20 --out /tmp/verdicts.json
python -m benchmarks.verdicts --only seeds,tanh --seeds 3
"""
