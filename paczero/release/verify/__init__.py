"""Checks of a release that need only its folder."""
