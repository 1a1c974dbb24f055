"""The stages of a run, a module each: what a stage needs, what it makes, and how.

A stage reads files of earlier ones and writes its own (:mod:`paramdiff.runs.run_folder`); none imports the pipeline
that puts them in order. Every generator, the main one and the baselines, goes through the same three stages: fit,
sample, score.
"""
