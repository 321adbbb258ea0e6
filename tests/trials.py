"""Forgets what dispatch has tried, so that a test's device is tried anew."""

from kernels import dispatch


def forget_trials() -> None:
    for tried in (dispatch._step_reason, dispatch._trial, dispatch._bulk_trial):
        tried.cache_clear()
