"""Faults on purpose: kills, damaged files, full disks, commands in each other's way; what came of each is compared."""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # a fork has none of the other threads of its parent
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
