"""What holds for all tests: one thread, no network, no display, reproducible examples."""

import os

# Before torch is imported by anything; commands that tests start inherit it.
os.environ.update(
    OMP_NUM_THREADS="1",
    MKL_NUM_THREADS="1",
    TOKENIZERS_PARALLELISM="false",
    HF_HUB_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    MPLBACKEND="Agg",
    COLUMNS="120",
)

from hypothesis import HealthCheck, settings

# Two slow cores are no reason for a failure, and a failure must come back when the tests run again.
settings.register_profile("paczero", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("paczero")
