"""Checks a release that somebody else made: only the released folder is needed, and nothing of it is trusted."""
