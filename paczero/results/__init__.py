"""Finished runs side by side: tables, intervals and figures, all of them made from one JSON document."""
