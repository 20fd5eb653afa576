"""From a file, a hub name or a dataset to encoded records and their fixed micro-batches."""
