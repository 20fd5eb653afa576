"""Checks a release with nothing but its folder."""
