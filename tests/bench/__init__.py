"""How fast it is, each figure beside a floor measured in the same run: ``python -m tests.bench``, or ``make bench``."""
