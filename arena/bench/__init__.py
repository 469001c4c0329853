"""The benchmarks of `arena bench`: each measures ratios against a baseline in the same run."""
